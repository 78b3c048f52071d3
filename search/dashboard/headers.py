"""What browsers are told: content policies, and how artifacts are to be shown."""

__all__ = [
    "EVERYWHERE",
    "PAGE_POLICY",
    "SANDBOX_POLICY",
    "Headers",
    "for_artifact",
    "without_policies",
]

Headers = list[tuple[str, str]]

#: Plotly's WebGL plots compile functions ('unsafe-eval'); its pictures are data: and blob: URLs.
PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self'; frame-src 'none'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
SANDBOX_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"

EVERYWHERE = [
    ("X-Content-Type-Options", "nosniff"),
    # not no-referrer: a form would then be sent with `Origin: null`
    ("Referrer-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
]

#: Artifacts that a browser may show by itself; SVG is not among them, it can hold script.
_SHOWN_TYPES = {
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "text/plain",
    "application/json",
}


def without_policies(headers: Headers) -> Headers:
    """The headers less those that the door sets itself, and less any leave for other origins."""
    replaced = ("access-control-", "content-security-policy", "cache-control")
    return [(name, value) for name, value in headers if not name.lower().startswith(replaced)]


def for_artifact(headers: Headers) -> Headers:
    """The headers of an artifact, which is downloaded unless its type is harmless to show."""
    kept = [(name, value) for name, value in headers if name.lower() != "content-disposition"]
    content_type = next((value for name, value in kept if name.lower() == "content-type"), "")
    shown = content_type.partition(";")[0].strip().lower() in _SHOWN_TYPES
    return [*kept, ("Content-Disposition", "inline" if shown else "attachment")]
