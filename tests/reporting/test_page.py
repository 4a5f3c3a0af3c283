"""A page is written whole, twice, and asks for nothing outside."""

from pathlib import Path

from kvdistill.reporting.blocks import Missing, Picture, Words, percent
from kvdistill.reporting.page import Page, Section


def test_a_plain_page_has_no_letter_that_only_looks_like_a_blank() -> None:
    page = Page(
        "Title",
        f"about {percent(0.5)}",
        [
            Section(
                "one",
                [
                    Words("x"),
                    Missing("f", "c"),
                    Picture(Path("figures/a.svg"), Path("figures/a-narrow.svg"), "A."),
                ],
            )
        ],
    )
    assert page.plain(60) == (
        "Title\n=====\n\nabout 50.0 %\n\n\none\n---\n\nx\n\nMissing: f. `c` writes it.\n\nFigure "
        "figures/a.svg: A.\n"
    )


def test_a_page_is_written_twice(tmp_path: Path) -> None:
    page = Page("T & U", "lead", [Section("one", [Words("x")]), Section("two", [])])
    assert page.write(tmp_path) == tmp_path / "report.html"
    html = (tmp_path / "report.html").read_text()
    assert (
        "<title>T &amp; U</title>" in html
        and "<h2>two</h2>" in html
        and "color-scheme: light dark" in html
        and "@media print" in html
    )
    assert 'name="viewport"' in html and "default-src 'none'" in html
    assert (tmp_path / "report.md").read_text() == "# T \\& U\n\nlead\n\n## one\n\nx\n\n## two\n"
