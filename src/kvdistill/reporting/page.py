"""A report as data, rendered as one self-contained HTML file, as Markdown with figures, or as plain text."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from kvdistill.records.jsonfile import write_atomic
from kvdistill.reporting.blocks import Block, filled, literal
from kvdistill.reporting.style import head


@dataclass(frozen=True)
class Section:
    """A heading with its blocks."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A complete report: title, first paragraph and sections."""

    title: str
    lead: str
    sections: Sequence[Section]

    def write(self, folder: Path) -> Path:
        """Write ``report.html`` and ``report.md``.

        Args:
            folder: the folder that holds ``figures/``.

        Returns:
            Path of the HTML file.
        """
        markdown = [f"# {literal(self.title)}", literal(self.lead)]
        for section in self.sections:
            markdown += [
                f"## {literal(section.title)}",
                *(block.markdown(folder) for block in section.blocks),
            ]
        write_atomic(folder / "report.html", self.html())
        write_atomic(folder / "report.md", "\n\n".join(markdown) + "\n")
        return folder / "report.html"

    def html(self) -> str:
        """As an HTML document with inlined figures."""
        html = [head(self.title), f'<h1>{escape(self.title)}</h1>\n<p class="lead">{escape(self.lead)}</p>']
        for section in self.sections:
            html += [
                f"<section>\n<h2>{escape(section.title)}</h2>",
                *(block.html() for block in section.blocks),
                "</section>",
            ]
        return "\n".join([*html, "</body>\n</html>\n"])

    def plain(self, width: int = 100) -> str:
        """As plain text in lines of at most ``width`` characters."""
        parts = [f"{self.title}\n{'=' * len(self.title)}", filled(self.lead, width)]
        for section in self.sections:
            parts += [
                f"\n{section.title}\n{'-' * len(section.title)}",
                *(block.plain(width) for block in section.blocks),
            ]
        return "\n\n".join(parts).replace("\N{NO-BREAK SPACE}", " ") + "\n"
