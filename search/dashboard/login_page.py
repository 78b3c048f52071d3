"""The log-in page: one HTML page without script, in light and dark."""

import base64
import hashlib
import html

__all__ = ["LOGIN_POLICY", "login_page"]

_STYLE = """
:root { color-scheme: light dark; --page: #f3f5f8; --card: #ffffff; --text: #1b2430;
  --quiet: #586475; --line: #8793a5; --accent: #1a5fb4; --on-accent: #ffffff; --bad: #b3261e;
  --shadow: 0 1px 2px rgb(20 30 50 / 8%), 0 12px 32px rgb(20 30 50 / 10%); }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1c222b; --text: #e8ecf2;
  --quiet: #a3aebd; --line: #6b778a; --accent: #8ab8f5; --on-accent: #0c1a2c; --bad: #ffb4ab;
  --shadow: 0 12px 32px rgb(0 0 0 / 40%); } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; min-height: 100dvh; display: grid; place-items: center;
  padding: 24px; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans",
  sans-serif; }
main { width: 100%; max-width: 400px; padding: 36px 32px 32px; background: var(--card);
  border-radius: 14px; box-shadow: var(--shadow); }
svg { display: block; width: 44px; height: 44px; color: var(--accent); }
h1 { margin: 18px 0 2px; font-size: 24px; line-height: 1.25; }
p { margin: 0 0 24px; color: var(--quiet); }
label { display: block; margin-bottom: 6px; font-weight: 600; }
input, button { width: 100%; height: 46px; border-radius: 8px; font: inherit; }
input { padding: 0 12px; border: 1px solid var(--line); background: var(--page);
  color: inherit; }
button { margin-top: 20px; border: 0; background: var(--accent); color: var(--on-accent);
  font-weight: 600; cursor: pointer; }
button:hover { filter: brightness(1.1); }
input:focus-visible, button:focus-visible { outline: 3px solid var(--accent);
  outline-offset: 2px; }
p.bad { margin: 10px 0 0; color: var(--bad); font-size: 15px; }
"""

_MARK = (
    '<svg viewBox="0 0 44 44" fill="none" stroke="currentColor" stroke-width="3" '
    'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">'
    '<path d="M5 5v34h34"/><path d="M12 31l7-10 7 4 12-15"/>'
    '<circle cx="38" cy="10" r="3" fill="currentColor"/></svg>'
)

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

LOGIN_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def login_page(destination: str, problem: str = "") -> bytes:
    """The page as UTF-8 HTML.

    Args:
        destination: path and query to go to after the log-in.
        problem: one line on why the last attempt was refused; empty for none.
    """
    note = f'<p class="bad" id="problem" role="alert">{html.escape(problem)}</p>' if problem else ""
    described = ' aria-invalid="true" aria-describedby="problem"' if problem else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · Study dashboard</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<main>
{_MARK}
<h1>Study dashboard</h1>
<p>Log in to see studies and trials.</p>
<form method="post" action="/login">
<input type="hidden" name="next" value="{html.escape(destination)}">
<input type="text" name="username" value="dashboard" autocomplete="username" hidden>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password"
 required autofocus{described}>
{note}
<button type="submit">Log in</button>
</form>
</main>
</body>
</html>
""".encode()
