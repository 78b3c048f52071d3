"""How every figure of a report looks: one palette, legible in print, right on a dark page.

Figures are drawn with Matplotlib in the colours for white paper. In the page's inlined SVG each
colour of the palette becomes a CSS variable and the ink becomes the text's colour, so the same
drawing is right on a dark page. The palette is Okabe and Ito's, which colour-blind people can
tell apart; no meaning hangs on colour alone.
"""

import io
import re
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = [
    "BLUE", "CSS", "GREEN", "GREY", "INK", "ORANGE", "PAPER", "PURPLE", "SERIES", "SKY",
    "VERMILLION", "figure", "inline_svg", "png", "svg", "svg_on_white", "themed",
]  # fmt: skip

INK = "#17191d"
PAPER = "#fffffe"  # behind words that stand on lines
GREY = "#82868c"
BLUE, VERMILLION, GREEN = "#0072b2", "#d55e00", "#009e73"
ORANGE, PURPLE, SKY = "#c98500", "#b3568a", "#3f9fd8"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK, GREY)
#: On a dark page: the same hues, lighter.
_DARK = {
    "grey": (GREY, "#a2a7ae"),
    "blue": (BLUE, "#56b4e9"),
    "vermillion": (VERMILLION, "#ff8b3d"),
    "green": (GREEN, "#35c99a"),
    "orange": (ORANGE, "#f0b73c"),
    "purple": (PURPLE, "#e59cc6"),
    "sky": (SKY, "#93d2fa"),
}
#: A colour of a figure -> what it is on the page.
_ON_PAGE = {INK: "currentColor", PAPER: "var(--paper)"} | {
    light: f"var(--{name})" for name, (light, _) in _DARK.items()
}
_COLOUR = re.compile(f"(?:{'|'.join(_ON_PAGE)})(?=[^<>]*>)")  # in a tag; in a text it is a name
DOTS_PER_INCH = 150

#: The variables that an inlined figure asks for.
CSS = (
    ":root{"
    + "".join(f"--{name}:{light};" for name, (light, _) in _DARK.items())
    + "}@media(prefers-color-scheme:dark){:root{"
    + "".join(f"--{name}:{dark};" for name, (_, dark) in _DARK.items())
    + "}}"
)

_RC: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # names are people's, and may hold any character
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "grid.color": GREY,
    "grid.alpha": 0.3,
    "axes.grid": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}

F = TypeVar("F", bound=Callable[..., Any])


def themed(draw: F) -> F:
    """Let a function draw with the theme; Matplotlib's own settings are as before afterwards."""

    @wraps(draw)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with mpl.rc_context(_RC):
            return draw(*args, **kwargs)

    return cast(F, wrapper)


def figure(width: float, height: float, title: str) -> Figure:
    """An empty figure, sizes in inches."""
    made = Figure(figsize=(width, height), layout="constrained", dpi=DOTS_PER_INCH)
    made.suptitle(title)
    return made


def _saved(drawn: Figure, data: io.BytesIO | io.StringIO, kind: str, **more: Any) -> None:
    """Write a figure; of a character that Matplotlib's font lacks a PNG has a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawn.savefig(data, format=kind, bbox_inches="tight", **more)


@themed
def png(drawn: Figure) -> bytes:
    """For print and slides, on white."""
    data = io.BytesIO()
    _saved(drawn, data, "png", facecolor="white", metadata={"Software": None})
    return data.getvalue()


@themed
def svg(drawn: Figure, name: str) -> str:
    """A figure without a background, as an SVG file's text.

    Args:
        name: distinct within a page, as it keeps the ids of figures apart.
    """
    data = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        _saved(drawn, data, "svg", facecolor="none", metadata={"Date": None})
    return data.getvalue()


def svg_on_white(text: str) -> bytes:
    """What `svg` drew, for print and slides."""
    white = r'\g<0>\n <rect width="100%" height="100%" fill="white"/>'
    return re.sub(r"<svg[^>]*>", white, text, count=1).encode()


def inline_svg(text: str, label: str) -> str:
    """What `svg` drew as an element for a page that has `CSS`.

    Args:
        label: what the figure shows, for who cannot see it.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every figure, and nobody asks
    text = _COLOUR.sub(lambda found: _ON_PAGE[found[0]], text)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    assert size is not None, "Matplotlib writes one"
    width = round(float(size[1]) * 4 / 3)  # points to CSS pixels
    head = (
        f'<svg role="img" aria-label="{label}" {size[0]} style="max-width:{width}px" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)
