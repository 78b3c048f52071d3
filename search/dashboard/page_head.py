"""What is added to the head of the dashboard's pages: a style, a script and its settings."""

import re
from pathlib import Path

from jinja2 import Environment, PackageLoader

__all__ = ["CSRF_HEADER", "SCRIPT", "html", "script"]

CSRF_HEADER = "X-CSRF-Token"
SCRIPT = "/csrf.js"  # its address

_TEMPLATES = Environment(loader=PackageLoader("search.dashboard"), autoescape=True)


def html(path: str, *, csrf_token: str | None, log_out: bool) -> str:
    """The elements to put before all else in a page's head.

    Args:
        path: of the page; the browser asks for the trials of its study at once, while it still
            reads the dashboard's script.
        csrf_token: for the writes of the page; None hides what writes.
        log_out: whether to offer a log-out.
    """
    study = re.match(r"/dashboard/studies/(\d+)(/|$)", path)
    return _TEMPLATES.get_template("head.html").render(
        study=None if study is None else study[1],
        csrf_token=csrf_token,
        log_out=log_out,
        script=SCRIPT,
    )


def script() -> str:
    """The script at `SCRIPT`."""
    text = Path(__file__).with_name("templates").joinpath("page.js").read_text(encoding="utf-8")
    return text.replace("CSRF_HEADER", CSRF_HEADER)
