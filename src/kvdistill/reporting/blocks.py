"""Building blocks of a report (text, table, figure, code), each written as HTML, Markdown and plain text."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import Protocol, runtime_checkable

from kvdistill.reporting.palette import themed

_FITS = 4
"""Number of columns that fit on a phone."""
_HINT = "More columns to the right: swipe the table."
_RULES = {True: "---", False: "---:"}
"""Markdown's line under the header, by whether the column is text."""
_JUSTIFY = {True: str.ljust, False: str.rjust}
"""How a cell of plain text is padded, by whether its column is text."""


@runtime_checkable
class Block(Protocol):
    """One part of a section; its three methods render it."""

    def html(self) -> str:
        """As an HTML fragment, escaped."""
        ...

    def markdown(self, folder: Path) -> str:
        """As Markdown.

        Args:
            folder: where the Markdown file is written; paths of figures are relative to it.
        """
        ...

    def plain(self, width: int) -> str:
        """As plain text.

        Args:
            width: maximum number of characters in a line.
        """
        ...


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str

    def html(self) -> str:
        """As HTML."""
        return f"<p>{escape(self.text)}</p>"

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        return literal(self.text)

    def plain(self, width: int) -> str:
        """As lines of at most ``width`` characters; longer words are not broken."""
        return filled(self.text, width)


@dataclass(frozen=True)
class Missing:
    """A note on a missing file, with the command that writes it."""

    what: str
    """Name of the file, or of the part of it."""
    command: str

    def html(self) -> str:
        """As HTML."""
        return (
            f'<p class="missing">Missing: {escape(self.what)}. <code>{escape(self.command)}</code> '
            "writes it.</p>"
        )

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        return f"> Missing: {literal(self.what)}. {inline_code(self.command)} writes it."

    def plain(self, width: int) -> str:
        """As lines of at most ``width`` characters."""
        return filled(f"Missing: {self.what}. `{self.command}` writes it.", width)


@dataclass(frozen=True)
class Table:
    """A table of text cells under a header."""

    header: Sequence[str]
    """Column names; all empty leaves the header out."""
    rows: Sequence[Sequence[str]]
    words: bool = False
    """Whether all columns are text, aligned left; else all but the first are numbers, aligned right."""

    def html(self) -> str:
        """As HTML; on a narrow screen a wide table scrolls, with a hint above it."""
        head, hint, kind = "", "", "numbers"
        if any(self.header):
            cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.header)
            head = f"<thead><tr>{cells}</tr></thead>"
        body = "\n".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows
        )
        if self.words:
            kind = "words"
        elif len(self.header) > _FITS:
            hint = f'<p class="hint">{_HINT}</p>\n'
        return (
            f'{hint}<div class="scroll"><table '
            f'class="{kind}">\n{head}\n<tbody>\n{body}\n</tbody>\n</table></div>'
        )

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        align = [_RULES[self._is_text(i)] for i in range(len(self.header))]
        rows = [[literal(cell) for cell in row] for row in (self.header, *self.rows)]
        return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], align, *rows[1:]))

    def plain(self, width: int) -> str:
        """As aligned columns; long names of columns, then the widest cells are wrapped to fit ``width``."""
        rows = list(self.rows)
        if any(self.header):
            rows = [self.header, *rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        # What a column needs for its cells and the longest word of its name.
        longest = [max(name.split(), key=len, default="") for name in self.header]
        needed = [max(map(len, column)) for column in zip(longest, *self.rows, strict=True)]
        # Two blanks between columns; the widest column shrinks first.
        while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 1:
            spare = [room - least for room, least in zip(widths, needed, strict=True)]
            if max(spare) > 0:
                widths[spare.index(max(spare))] -= 1
            else:
                widths[widths.index(max(widths))] -= 1
        if any(self.header):
            rule = ["-" * min(len(name), room) for name, room in zip(self.header, widths, strict=True)]
            rows.insert(1, rule)
        lines = []
        for row in rows:
            cells = [
                textwrap.wrap(cell, room, break_on_hyphens=False) or [""]
                for cell, room in zip(row, widths, strict=True)
            ]
            for parts in zip_longest(*cells, fillvalue=""):
                placed = [
                    _JUSTIFY[self._is_text(i)](part, room)
                    for i, (part, room) in enumerate(zip(parts, widths, strict=True))
                ]
                lines.append("  ".join(placed).rstrip())
        return "\n".join(lines)

    def _is_text(self, column: int) -> bool:
        """Whether a column is text, aligned left."""
        return self.words or column == 0


@dataclass(frozen=True)
class Picture:
    """A figure with its caption."""

    path: Path
    """SVG file for a wide screen."""
    narrow: Path
    """SVG file for a phone."""
    caption: str

    def html(self) -> str:
        """As HTML with both SVGs inlined; the page shows the one that fits, in its own colors."""
        caption = escape(self.caption)
        figures = [
            _inline(path, kind, caption) for path, kind in ((self.path, "wide"), (self.narrow, "narrow"))
        ]
        return f"<figure>{figures[0]}{figures[1]}<figcaption>{caption}</figcaption></figure>"

    def markdown(self, folder: Path) -> str:
        """As Markdown that links the wide SVG, relative to ``folder``."""
        caption, path = literal(self.caption), self.path.relative_to(folder).as_posix()
        return f"![{caption}]({path})\n\n{caption}"

    def plain(self, width: int) -> str:
        """The path of the figure and its caption."""
        return filled(f"Figure {self.path.parent.name}/{self.path.name}: {self.caption}", width)


@dataclass(frozen=True)
class Code:
    """Preformatted text, such as a command or a configuration."""

    text: str

    def html(self) -> str:
        """As HTML."""
        return f"<pre>{escape(self.text)}</pre>"

    def markdown(self, folder: Path) -> str:
        """As Markdown, in a fence longer than any in the text."""
        fence = "`" * max(4, 1 + max(map(len, re.findall("`+", self.text)), default=0))
        return f"{fence}\n{self.text}\n{fence}"

    def plain(self, width: int) -> str:
        """Unchanged but indented."""
        return textwrap.indent(self.text, "    ")


@dataclass(frozen=True)
class Folded:
    """A block that is collapsed until the reader opens it."""

    title: str
    block: Block

    def html(self) -> str:
        """As HTML, collapsed."""
        return f"<details><summary>{escape(self.title)}</summary>\n{self.block.html()}\n</details>"

    def markdown(self, folder: Path) -> str:
        """As Markdown under its title."""
        return f"{literal(self.title)}:\n\n{self.block.markdown(folder)}"

    def plain(self, width: int) -> str:
        """As lines under its title."""
        return f"{filled(self.title, width)}:\n\n{self.block.plain(width)}"


def percent(share: float | None) -> str:
    """A share (0 to 1) in percent, with one decimal; a dash for None."""
    if share is None:
        return "–"
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def percent_range(low: float, high: float) -> str:
    """Two ends of an interval (0 to 1) in percent: ``41.2–55.0 %``."""
    return f"{100 * low:.1f}–{percent(high)}"


def filled(text: str, width: int) -> str:
    """Text wrapped to lines of at most ``width`` characters; longer words are not broken."""
    return textwrap.fill(text, width, break_on_hyphens=False, break_long_words=False)


def literal(text: str) -> str:
    """Text escaped for Markdown, in one line."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*_<>\[\]#&$~|])", r"\\\1", line)


def inline_code(text: str) -> str:
    """Inline code for Markdown, in a fence longer than any in the text."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    line = " ".join(text.split())
    if "`" in text:
        line = f" {line} "
    return f"{fence}{line}{fence}"


def _inline(path: Path, kind: str, caption: str) -> str:
    """An SVG file as part of an HTML page: no XML head, a label for screen readers, the page's colors."""
    svg = path.read_text(encoding="utf-8")
    svg = re.sub(
        r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->",
        "",
        svg[svg.index("<svg") :],
        flags=re.DOTALL,
    )
    # Ids that nothing refers to are dropped: both SVGs of a figure share one page, and ids must be unique.
    used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', svg))

    def used_id(found: re.Match[str]) -> str:
        if found[1] in used:
            return found[0]
        return ""

    def tag(found: re.Match[str]) -> str:
        """Edit tags only; text of the figure that looks like a tag is escaped and never matches."""
        return themed(re.sub(r' id="([^"]*)"', used_id, found[0]))

    svg = re.sub(r"<[^<>]+>", tag, svg)
    return svg.replace(
        "<svg", f'<svg class="{kind}" role="img" aria-label="{caption}" stroke-linejoin="round"', 1
    ).strip()
