"""A report as data, written as one HTML file that needs nothing else, as Markdown beside its figures, or as plain text."""

import base64
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from pathlib import Path

from kvdistill.jsonfile import write_atomic

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 52rem; background: #fff; color: #1a1a1a;
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: break-word; }}
h1 {{ font-size: 1.7rem; line-height: 1.25; margin: 0 0 .6rem; }}
h2 {{ font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid #d8d8d8; }}
.lead {{ font-size: 1.1rem; }}
.scroll {{ overflow-x: auto; margin: .9rem 0; }}
table {{ border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .4rem .6rem; border-bottom: 1px solid #e2e2e2; text-align: right; vertical-align: top; }}
th {{ border-bottom: 2px solid #444; font-weight: 600; vertical-align: bottom; }}
th:first-child, td:first-child {{ min-width: 7rem; }}
th:first-child, td:first-child, .words td, .words th {{ text-align: left; }}
figure {{ margin: 1rem 0; }}
img {{ max-width: 100%; height: auto; display: block; }}
figcaption {{ color: #555; font-size: .88rem; }}
pre {{ background: #f5f5f5; padding: .8rem; font-size: .8rem; line-height: 1.4; white-space: pre-wrap; overflow-wrap: anywhere; }}
.missing {{ border-left: 4px solid #B87A00; background: #fff8e8; padding: .6rem .9rem; }}
@media print {{ body {{ font-size: 11pt; max-width: none; padding: 0; }} h2 {{ break-after: avoid; }} .scroll {{ overflow: visible; }}
  table, figure, .missing {{ break-inside: avoid; }} }}
</style>
</head>
<body>
"""


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str

    def html(self) -> str:
        """As HTML."""
        return f"<p>{escape(self.text)}</p>"

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        return _literal(self.text)

    def plain(self, width: int) -> str:
        """As lines of at most ``width`` letters; words longer than that stay whole."""
        return _filled(self.text, width)


@dataclass(frozen=True)
class Missing:
    """What is not there, and the command that makes it."""

    what: str
    command: str

    def html(self) -> str:
        """As HTML."""
        return f'<p class="missing">Missing: {escape(self.what)}. <code>{escape(self.command)}</code> writes it.</p>'

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        return f"> Missing: {_literal(self.what)}. `{self.command}` writes it."

    def plain(self, width: int) -> str:
        """As lines of at most ``width`` letters."""
        return _filled(f"Missing: {self.what}. `{self.command}` writes it.", width)


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header (left out where all of it is empty); the first column is words, the others numbers unless ``words``."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False

    def html(self) -> str:
        """As HTML; wide tables scroll on a narrow screen."""
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.header)
        body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        kind = ' class="words"' if self.words else ""
        head = f"<thead><tr>{head}</tr></thead>" if any(self.header) else ""
        return f'<div class="scroll"><table{kind}>\n{head}\n<tbody>\n{body}\n</tbody>\n</table></div>'

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        align = ["---" if self.words or i == 0 else "---:" for i in range(len(self.header))]
        rows = [[_literal(cell).replace("|", "\\|") for cell in row] for row in (self.header, *self.rows)]
        return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], align, *rows[1:]))

    def plain(self, width: int) -> str:
        """As columns; where they are wider than ``width`` together, the cells of the widest ones are broken into lines."""
        head = [list(self.header), ["-" * len(cell) for cell in self.header]] if any(self.header) else []
        rows = [*head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 1:
            widths[widths.index(max(widths))] -= 1
        lines = []
        for row in rows:
            cells = [textwrap.wrap(cell, room, break_on_hyphens=False) or [""] for cell, room in zip(row, widths, strict=True)]
            for parts in zip_longest(*cells, fillvalue=""):
                placed = [
                    part.ljust(room) if self.words or i == 0 else part.rjust(room)
                    for i, (part, room) in enumerate(zip(parts, widths, strict=True))
                ]
                lines.append("  ".join(placed).rstrip())
        return "\n".join(lines)


@dataclass(frozen=True)
class Picture:
    """A PNG file with its caption."""

    path: Path
    caption: str

    def html(self) -> str:
        """As HTML, the picture inside."""
        data = base64.b64encode(self.path.read_bytes()).decode()
        caption = escape(self.caption)
        return f'<figure><img src="data:image/png;base64,{data}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'

    def markdown(self, folder: Path) -> str:
        """As Markdown that points at the file, relative to ``folder``."""
        return f"![{_literal(self.caption)}]({self.path.relative_to(folder).as_posix()})\n\n{_literal(self.caption)}"

    def plain(self, width: int) -> str:
        """Where it lies."""
        return _filled(f"Figure {self.path.parent.name}/{self.path.name}: {self.caption}", width)


@dataclass(frozen=True)
class Code:
    """Text as it stands, such as a command or a config."""

    text: str

    def html(self) -> str:
        """As HTML."""
        return f"<pre>{escape(self.text)}</pre>"

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        return f"````\n{self.text}\n````"

    def plain(self, width: int) -> str:
        """As it stands, indented."""
        return textwrap.indent(self.text, "    ")


Block = Words | Missing | Table | Picture | Code


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    lead: str
    sections: Sequence[Section]

    def write(self, folder: Path) -> Path:
        """Write ``report.html`` and ``report.md`` into ``folder``, where the pictures lie; returns the HTML file."""
        markdown = [f"# {_literal(self.title)}", _literal(self.lead)]
        for section in self.sections:
            markdown += [f"## {_literal(section.title)}", *(block.markdown(folder) for block in section.blocks)]
        write_atomic(folder / "report.html", self.html())
        write_atomic(folder / "report.md", "\n\n".join(markdown) + "\n")
        return folder / "report.html"

    def html(self) -> str:
        """As an HTML document, the pictures inside."""
        html = [_HEAD.format(title=escape(self.title)), f'<h1>{escape(self.title)}</h1>\n<p class="lead">{escape(self.lead)}</p>']
        for section in self.sections:
            html += [f"<section>\n<h2>{escape(section.title)}</h2>", *(block.html() for block in section.blocks), "</section>"]
        return "\n".join([*html, "</body>\n</html>\n"])

    def plain(self, width: int = 100) -> str:
        """As text in lines of at most ``width`` letters."""
        parts = [f"{self.title}\n{'=' * len(self.title)}", _filled(self.lead, width)]
        for section in self.sections:
            parts += [f"\n{section.title}\n{'-' * len(section.title)}", *(block.plain(width) for block in section.blocks)]
        return "\n\n".join(parts).replace("\N{NO-BREAK SPACE}", " ") + "\n"


def percent(share: float) -> str:
    """A share in percent, to a tenth."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def number(value: float | int | None, absent: str = "–") -> str:
    """Four digits that matter; whole from 1000 on."""
    if value is None:
        return absent
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _filled(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False, break_long_words=False)


def _literal(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_<>[]#" else letter for letter in text)
