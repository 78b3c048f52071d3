"""The log-in page: one HTML page without script, in light and dark."""

import base64
import hashlib

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

__all__ = ["LOGIN_POLICY", "login_page"]

_TEMPLATES = Environment(loader=PackageLoader("search.dashboard"), autoescape=True)
_STYLE = Markup(_TEMPLATES.get_template("login.css").render())
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

LOGIN_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def login_page(destination: str, problem: str = "") -> str:
    """The page as HTML.

    Args:
        destination: path and query to go to after the log-in.
        problem: one line on why the last attempt was refused; empty for none.
    """
    template = _TEMPLATES.get_template("login.html")
    return template.render(style=_STYLE, destination=destination, problem=problem)
