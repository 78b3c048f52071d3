"""One HTML page that needs nothing else: no network, no script, no further file."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from matplotlib.figure import Figure

from search.report.theme import CSS, inline_svg, png, svg

__all__ = ["Bullets", "Drawing", "Page", "Paragraph", "Part", "Picture", "Section", "Table"]


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A few sentences."""

    text: str

    def to_html(self) -> str:
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True, kw_only=True)
class Bullets:
    """One statement per line."""

    lines: Sequence[str]

    def to_html(self) -> str:
        if not self.lines:
            return ""
        return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in self.lines)}</ul>"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as text; columns whose cells begin with a digit are set to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_html(self) -> str:
        right = [
            all(not row[i] or row[i][0].isdigit() or row[i][0] in "-+" for row in self.rows)
            for i in range(len(self.head))
        ]
        marks = [' class="n"' if flag else "" for flag in right]
        head = "".join(f"<th{m}>{escape(h)}</th>" for h, m in zip(self.head, marks, strict=True))
        body = "".join(
            "<tr>"
            + "".join(f"<td{m}>{escape(c)}</td>" for c, m in zip(row, marks, strict=True))
            + "</tr>"
            for row in self.rows
        )
        return (
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure that is inlined as SVG and written beside the page as PNG and SVG."""

    name: str  # of its files; distinct within the page
    figure: Figure
    caption: str  # what it shows and how to read it

    def to_html(self) -> str:
        caption = escape(self.caption)
        image = inline_svg(self.figure, self.name, caption)
        return (
            f'<figure id="{self.name}"><div class="scroll" tabindex="0">{image}</div>'
            f"<figcaption>{caption}</figcaption></figure>"
        )

    def files(self) -> dict[str, bytes]:
        return {
            f"{self.name}.png": png(self.figure),
            f"{self.name}.svg": svg(self.figure, self.name),
        }


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A PNG that exists already, legible on a light and on a dark page."""

    name: str
    data: bytes
    caption: str

    def to_html(self) -> str:
        encoded = base64.b64encode(self.data).decode()
        return (
            f'<figure id="{self.name}"><div class="scroll">'
            f'<img src="data:image/png;base64,{encoded}" alt="{escape(self.caption)}"></div>'
            f"<figcaption>{escape(self.caption)}</figcaption></figure>"
        )

    def files(self) -> dict[str, bytes]:
        return {f"{self.name}.png": self.data}


Part = Paragraph | Bullets | Table | Drawing | Picture


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands under it."""

    title: str
    parts: Sequence[Part]
    level: int = 2

    def to_html(self) -> str:
        inside = "".join(part.to_html() for part in self.parts)
        return f"<section><h{self.level}>{escape(self.title)}</h{self.level}>{inside}</section>"


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report."""

    title: str
    subtitle: str
    sections: Sequence[Section] = field(default=())

    def to_html(self) -> str:
        body = "\n".join(section.to_html() for section in self.sections if section.parts)
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<meta name="color-scheme" content="light dark">'
            f'<link rel="icon" href="data:,"><title>{escape(self.title)}</title>'
            f"<style>{CSS}{_STYLE}</style></head><body><main>"
            f'<h1>{escape(self.title)}</h1><p class="sub">{escape(self.subtitle)}</p>'
            f"\n{body}\n</main></body></html>\n"
        )

    def files(self) -> dict[str, bytes]:
        """The page as report.html, and its figures under figures/."""
        files = {"report.html": self.to_html().encode()}
        for section in self.sections:
            for part in section.parts:
                if isinstance(part, Drawing | Picture):
                    files |= {f"figures/{name}": data for name, data in part.files().items()}
        return files


_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--text:#17191d;--quiet:#5d636b;--line:#d9dce0}
@media(prefers-color-scheme:dark){:root{
--paper:#15171b;--text:#e8eaed;--quiet:#a2a8b0;--line:#363a41}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--text);font:16px/1.5 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1.2rem 4rem}
h1{font-size:1.9rem;margin:0}
h2{font-size:1.35rem;margin:2.4rem 0 .6rem;
border-bottom:1px solid var(--line);padding-bottom:.2rem}
h3{font-size:1.1rem;margin:1.8rem 0 .4rem}
.sub,figcaption{color:var(--quiet)}.sub{margin:.2rem 0 1rem}
figure{margin:1.4rem 0}
figcaption{font-size:.88rem;margin:.35rem auto 0;max-width:48rem;text-align:center}
svg{display:block;width:100%;height:auto;margin:0 auto;color:var(--text)}
img{display:block;max-width:100%;margin:0 auto}
/* a shadow at the edge beyond which there is more to see */
.scroll{overflow-x:auto;background:
linear-gradient(to right,var(--paper) 30%,transparent) left/2.5rem 100% no-repeat local,
linear-gradient(to left,var(--paper) 30%,transparent) right/2.5rem 100% no-repeat local,
linear-gradient(to right,var(--line),transparent) left/.8rem 100% no-repeat,
linear-gradient(to left,var(--line),transparent) right/.8rem 100% no-repeat}
table{border-collapse:collapse;font-size:.92rem;margin:.6rem 0}
th,td{padding:.28rem .9rem .28rem 0;
text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums}
td.n{white-space:nowrap}
ul{padding-left:1.2rem}li{margin:.15rem 0}
@media screen and (max-width:40rem){.scroll svg,.scroll img{min-width:36rem}}
@media print{main{max-width:none;padding:0}figure,table{break-inside:avoid}}
"""
