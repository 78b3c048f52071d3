"""Headers of every answer: content policies, and how artifacts are shown."""

from werkzeug.datastructures import Headers

__all__ = ["EVERYWHERE", "PAGE_POLICY", "SANDBOX_POLICY", "is_page", "restrict"]

#: Plotly's WebGL plots compile functions ('unsafe-eval'); its pictures are data: and blob: URLs.
PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self'; frame-src 'none'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
SANDBOX_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"

EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    # not no-referrer: a form would then be sent with `Origin: null`
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

#: Artifacts that a browser may show by itself; SVG is not among them, it can hold script.
_SHOWN_TYPES = {
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "text/plain",
    "application/json",
}


def is_page(path: str) -> bool:
    """Whether a path is one of the dashboard's pages; anything else is sandboxed."""
    return path == "/dashboard" or path.startswith("/dashboard/")


def restrict(headers: Headers, path: str) -> None:
    """Replace optuna-dashboard's policies by ours; other origins may read nothing."""
    for name in [name for name, _ in headers if name.lower().startswith("access-control-")]:
        del headers[name]
    if path.startswith("/artifacts/"):
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        headers["Content-Disposition"] = "inline" if kind in _SHOWN_TYPES else "attachment"
    headers["Content-Security-Policy"] = PAGE_POLICY if is_page(path) else SANDBOX_POLICY
    headers["Cache-Control"] = "private, no-cache" if path.startswith("/static/") else "no-store"
