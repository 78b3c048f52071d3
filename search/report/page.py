"""One HTML page that needs nothing else: no network, no script, no further file."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from search.report.theme import CSS, inline_svg, png, svg, svg_on_white

__all__ = ["Bullets", "Drawing", "Page", "Paragraph", "Part", "Picture", "Section", "Table"]

_TEMPLATES = Environment(
    loader=PackageLoader("search.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A few sentences."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True, kw_only=True)
class Bullets:
    """One statement per line."""

    kind: ClassVar[str] = "bullets"
    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as text; columns of numbers are aligned to the right."""

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def marks(self) -> list[Markup]:
        """The attribute of each column's cells: a class where all of them are numbers or empty."""
        return [
            Markup(' class="n"')
            if all(not row[i] or row[i][0].isdigit() or row[i][0] in "-+" for row in self.rows)
            else Markup("")
            for i in range(len(self.head))
        ]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure that is inlined as SVG and written beside the page as PNG and SVG."""

    kind: ClassVar[str] = "drawing"
    name: str  # of its files; distinct within the page
    figure: Figure
    caption: str  # what it shows and how to read it

    @property
    def image(self) -> Markup:
        """The `<svg>` element; Matplotlib escapes the figure's texts."""
        return Markup(inline_svg(self._svg, str(escape(self.caption))))

    @cached_property
    def _svg(self) -> str:
        """Drawn once, as it takes half a second."""
        return svg(self.figure, self.name)

    def files(self) -> dict[str, bytes]:
        """The figure's files, by name."""
        return {
            f"{self.name}.png": png(self.figure),
            f"{self.name}.svg": svg_on_white(self._svg),
        }


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An existing PNG, legible on a light and on a dark page."""

    kind: ClassVar[str] = "picture"
    name: str
    data: bytes
    caption: str

    @property
    def base64(self) -> str:
        """The PNG as text for a `data:` address."""
        return base64.b64encode(self.data).decode()

    def files(self) -> dict[str, bytes]:
        """The picture's file, by name."""
        return {f"{self.name}.png": self.data}


Part = Paragraph | Bullets | Table | Drawing | Picture


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and the parts below it; a section without parts is not shown."""

    title: str
    parts: Sequence[Part]
    level: int = 2


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report."""

    title: str
    subtitle: str
    sections: Sequence[Section] = field(default=())

    def to_html(self) -> str:
        """The page; every text in it is escaped."""
        style = Markup(CSS + _TEMPLATES.get_template("report.css").render())
        return _TEMPLATES.get_template("report.html").render(page=self, style=style)

    def files(self) -> dict[str, bytes]:
        """The page as report.html, and its figures under figures/."""
        files = {"report.html": self.to_html().encode()}
        for section in self.sections:
            for part in section.parts:
                if isinstance(part, Drawing | Picture):
                    files |= {f"figures/{name}": data for name, data in part.files().items()}
        return files
