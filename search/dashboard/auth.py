"""The WSGI middleware in front of optuna-dashboard: who may read, who may write, under which rules.

optuna-dashboard 0.21 has no log-in, writes for anyone, and serves artifacts as they are. Whatever
is not allowed here by name is refused: a path is open only when it is the log-in page, a method is
a read only when it is GET or HEAD, and an answer is sandboxed unless it is a page of the dashboard.
"""

import hashlib
import hmac
import json
import logging
import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from search.dashboard.headers import (
    EVERYWHERE,
    PAGE_POLICY,
    SANDBOX_POLICY,
    Headers,
    for_artifact,
    without_policies,
)
from search.dashboard.login_page import LOGIN_POLICY, login_page
from search.dashboard.sessions import SESSION_S, Attempts, Sessions
from search.errors import SearchError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["CSRF_HEADER", "Door", "is_loopback"]

CSRF_HEADER = "X-CSRF-Token"
_PASSWORD_LENGTH = 8  # with 30 guesses a minute, more than a lifetime
_LOGIN_BYTES = 4096  # the most that a log-in form may hold
_ANONYMOUS = "anonymous"  # stands for the session where no password is set

#: Hands the page's token to every write that the dashboard's own script makes.
_CSRF_SCRIPT = f"""(() => {{
  const token = document.querySelector('meta[name="csrf-token"]').content;
  const plain = window.fetch;
  window.fetch = (resource, options = {{}}) => {{
    const method = (options.method || "GET").toUpperCase();
    const url = new URL(resource instanceof Request ? resource.url : resource, location.href);
    if (method === "GET" || method === "HEAD" || url.origin !== location.origin)
      return plain(resource, options);
    const headers = new Headers(options.headers);
    headers.set("{CSRF_HEADER}", token);
    return plain(resource, {{ ...options, headers }});
  }};
}})();
"""

#: The dashboard writes each attribute of a trial on one line; a learning curve made the page seven
#: thousand pixels wide.
_STYLE = "<style>p.MuiTypography-body1{white-space:normal;overflow-wrap:break-word}</style>"

_log = logging.getLogger(__name__)


class Door:
    """WSGI application that lets requests through to another.

    Args:
        app: optuna-dashboard's WSGI application.
        password: None lets everybody in who names the host by a loopback name, so that a foreign
            page cannot come in by rebinding its own name to 127.0.0.1.
        allow_writes: False refuses every method but GET and HEAD.

    Raises:
        SearchError: the password is too short.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        *,
        password: str | None,
        allow_writes: bool,
        sessions: Sessions | None = None,
        attempts: Attempts | None = None,
    ) -> None:
        if password is not None and len(password) < _PASSWORD_LENGTH:
            raise SearchError(
                f"the dashboard's password needs at least {_PASSWORD_LENGTH} characters, "
                f"got {len(password)}; choose a longer one"
            )
        self._app = app
        self._password = None if password is None else _digest(password)
        self._allow_writes = allow_writes
        self._sessions = sessions or Sessions()
        self._attempts = attempts or Attempts()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        status, headers, body = self._answer(environ)
        names = {name.lower() for name, _ in headers}
        headers += [(name, value) for name, value in EVERYWHERE if name.lower() not in names]
        start_response(status, headers)
        if environ["REQUEST_METHOD"] == "HEAD":
            getattr(body, "close", lambda: None)()
            return []
        return body

    def _answer(self, environ: "WSGIEnvironment") -> tuple[str, Headers, Iterable[bytes]]:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if self._password is None:
            session = _ANONYMOUS
            if not is_loopback(_host_name(environ)):
                return _refusal(
                    "403 Forbidden",
                    "without a password the dashboard answers to localhost only, got the host "
                    f"{environ.get('HTTP_HOST', '')[:100]!r}; set a password",
                )
        else:
            if path == "/login":
                return self._login(environ)
            session = _cookie(environ)
            if not self._sessions.is_open(session):
                return _unauthenticated(environ)
        if method not in ("GET", "HEAD"):
            refused = self._refuse_write(environ, session)
            if refused is not None:
                return refused
        if path == "/csrf.js":
            return _own("200 OK", "text/javascript; charset=utf-8", _CSRF_SCRIPT.encode())
        return self._pass_on(environ, session)

    def _login(self, environ: "WSGIEnvironment") -> tuple[str, Headers, Iterable[bytes]]:
        if environ["REQUEST_METHOD"] != "POST":
            return _page("200 OK", login_page("/dashboard"))
        if not _same_origin(environ):
            return _refusal("403 Forbidden", "log in on the dashboard's own page")
        try:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            if not 0 <= length <= _LOGIN_BYTES:
                raise ValueError
            form = parse_qs(environ["wsgi.input"].read(length).decode(), max_num_fields=4)
        except ValueError:
            return _refusal("400 Bad Request", "not a log-in form")
        destination = _destination(form.get("next", [""])[0])
        address = environ.get("REMOTE_ADDR", "")
        wait_s = math.ceil(self._attempts.take(address))
        if wait_s > 0:
            page = login_page(destination, f"Too many attempts. Try again in {wait_s} seconds.")
            status, headers, body = _page("429 Too Many Requests", page)
            return status, [*headers, ("Retry-After", str(wait_s))], body
        assert self._password is not None
        if not hmac.compare_digest(_digest(form.get("password", [""])[0]), self._password):
            _log.warning("a wrong password from %s", address)
            return _page("401 Unauthorized", login_page(destination, "That password is wrong."))
        self._attempts.forgive(address)
        cookie = (
            f"{_cookie_name(environ)}={self._sessions.open()}; Path=/; Max-Age={SESSION_S:.0f}; "
            "HttpOnly; SameSite=Strict"
        )
        # The header is the client's or its proxy's word. Who lies about it only keeps his own
        # browser from sending the cookie over http, so no list of trusted proxies is needed.
        if environ.get("HTTP_X_FORWARDED_PROTO", "").lower() == "https":
            cookie += "; Secure"
        status, headers, body = _own("303 See Other", "text/plain", b"")
        return status, [*headers, ("Location", destination), ("Set-Cookie", cookie)], body

    def _refuse_write(
        self, environ: "WSGIEnvironment", session: str
    ) -> tuple[str, Headers, Iterable[bytes]] | None:
        if not self._allow_writes:
            return _refusal(
                "403 Forbidden",
                "the dashboard is read-only; start it with --allow-writes to change studies",
            )
        if not _same_origin(environ):
            return _refusal("403 Forbidden", "a write must come from the dashboard's own page")
        given = environ.get("HTTP_" + CSRF_HEADER.upper().replace("-", "_"), "")
        if not hmac.compare_digest(given.encode(), self._sessions.csrf_token(session).encode()):
            return _refusal(
                "403 Forbidden", f"the header {CSRF_HEADER} is missing or wrong; reload the page"
            )
        if environ.get("PATH_INFO", "").rstrip("/").endswith("/rename"):
            return _refusal(
                "403 Forbidden",
                "optuna-dashboard renames by copying trials under new ids, which would cut them "
                "off from their budget and checkpoints; start a study of the new name instead",
            )
        return None

    def _pass_on(
        self, environ: "WSGIEnvironment", session: str
    ) -> tuple[str, Headers, Iterable[bytes]]:
        # optuna-dashboard 0.21 fails on /static/* and the icon when the header is absent
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")
        path = environ.get("PATH_INFO", "")
        is_page = path == "/dashboard" or path.startswith("/dashboard/")
        if is_page:  # its answer is changed below, so a stored copy must not be confirmed
            for name in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_RANGE"):
                environ.pop(name, None)
        started: list[Any] = []

        def start(status: str, headers: Headers, exc_info: Any = None) -> Any:  # noqa: ARG001
            started[:] = [status, headers]

        body = self._app(environ, start)
        status, headers = started[0], without_policies(started[1])
        if path.startswith("/artifacts/"):
            headers = for_artifact(headers)
        headers.append(("Content-Security-Policy", PAGE_POLICY if is_page else SANDBOX_POLICY))
        headers.append(
            ("Cache-Control", "private, no-cache" if path.startswith("/static/") else "no-store")
        )
        if is_page and environ["REQUEST_METHOD"] == "GET":
            head = _STYLE + _preload(path)
            if self._allow_writes:
                token = self._sessions.csrf_token(session)
                head += (
                    f'<meta name="csrf-token" content="{token}"><script src="/csrf.js"></script>'
                )
            return _with_head(status, headers, body, head)
        return status, headers, body


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only; other names are not looked up."""
    import ipaddress

    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _own(
    status: str, content_type: str, body: bytes, policy: str = SANDBOX_POLICY
) -> tuple[str, Headers, Iterable[bytes]]:
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Content-Security-Policy", policy),
        ("Cache-Control", "no-store"),
    ]
    return status, headers, [body]


def _page(status: str, body: bytes) -> tuple[str, Headers, Iterable[bytes]]:
    return _own(status, "text/html; charset=utf-8", body, LOGIN_POLICY)


def _refusal(status: str, reason: str) -> tuple[str, Headers, Iterable[bytes]]:
    """A refusal in the form that the dashboard's own script shows: {"reason": ...}."""
    return _own(status, "application/json", json.dumps({"reason": reason}).encode())


def _unauthenticated(environ: "WSGIEnvironment") -> tuple[str, Headers, Iterable[bytes]]:
    if environ["REQUEST_METHOD"] == "GET" and "text/html" in environ.get("HTTP_ACCEPT", ""):
        query = environ.get("QUERY_STRING", "")
        wanted = environ.get("PATH_INFO", "") + (f"?{query}" if query else "")
        return _page("401 Unauthorized", login_page(_destination(wanted)))
    return _refusal("401 Unauthorized", "log in first: open the dashboard's page and log in")


def _destination(wanted: str) -> str:
    """A page of the dashboard; the first page for anything else, such as another site."""
    known = re.fullmatch(r"/dashboard(?:[/?][\w\-./?=&%,+~:]*)?", wanted, flags=re.ASCII)
    return wanted if known else "/dashboard"


def _cookie_name(environ: "WSGIEnvironment") -> str:
    # browsers keep one jar for all ports of a host, so two dashboards need two names
    return f"session_{environ['SERVER_PORT']}"


def _cookie(environ: "WSGIEnvironment") -> str:
    for pair in environ.get("HTTP_COOKIE", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == _cookie_name(environ):
            return str(value)
    return ""


def _host_name(environ: "WSGIEnvironment") -> str:
    try:
        return urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname or ""
    except ValueError:
        return ""


def _same_origin(environ: "WSGIEnvironment") -> bool:
    """Whether the browser says that a page of this very origin made the request."""
    site = environ.get("HTTP_SEC_FETCH_SITE")  # sent over https and on loopback
    if site is not None:
        return bool(site == "same-origin")
    source = environ.get("HTTP_ORIGIN") or environ.get("HTTP_REFERER") or ""
    try:
        return bool(urlsplit(source).netloc == environ.get("HTTP_HOST", "") != "")
    except ValueError:
        return False


def _preload(path: str) -> str:
    """Let the browser ask for a study's trials while it still reads the dashboard's script."""
    study = re.match(r"/dashboard/studies/(\d+)(/|$)", path)
    if study is None:
        return ""
    return f'<link rel="preload" as="fetch" href="/api/studies/{study[1]}?after=0" crossorigin>'


def _with_head(
    status: str, headers: Headers, body: Iterable[bytes], head: str
) -> tuple[str, Headers, Iterable[bytes]]:
    """Put `head` before all else in a page's head."""
    page = b"".join(body)
    getattr(body, "close", lambda: None)()
    page = page.replace(b"<head>", f"<head>{head}".encode(), 1)
    kept = [(n, v) for n, v in headers if n.lower() not in ("content-length", "etag")]
    return status, [*kept, ("Content-Length", str(len(page)))], [page]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
