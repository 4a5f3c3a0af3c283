"""Blocks say the same in HTML, in Markdown and as plain text, and text stays text."""

import base64
from pathlib import Path

import pytest

from kvdistill.reporting.page import Code, Missing, Page, Picture, Section, Table, Words, number, percent

ROOT = Path()


def test_text_is_never_markup() -> None:
    words = Words("a < b & *c* [d]")
    assert words.html() == "<p>a &lt; b &amp; *c* [d]</p>"
    assert words.markdown(ROOT) == "a \\< b & \\*c\\* \\[d\\]"
    assert Code("<x>").html() == "<pre>&lt;x&gt;</pre>" and Code("<x>").markdown(ROOT) == "````\n<x>\n````"


def test_tables() -> None:
    table = Table(("mode", "n"), [["a|b", "<1>"]])
    assert table.markdown(ROOT) == "| mode | n |\n| --- | ---: |\n| a\\|b | \\<1\\> |"
    assert '<thead><tr><th scope="col">mode</th>' in table.html() and "<td>a|b</td><td>&lt;1&gt;</td>" in table.html()
    bare = Table(("", ""), [["seed", "1"]], words=True)
    assert "<thead>" not in bare.html() and 'class="words"' in bare.html() and bare.markdown(ROOT).startswith("|  |  |\n| --- | --- |")


def test_plain_tables_stand_in_columns_and_break_their_widest_cells() -> None:
    table = Table(("mode", "n"), [["a", "10.5"], ["bcd", "7"]])
    assert table.plain(40) == "mode     n\n----     -\na     10.5\nbcd      7"
    long = Table(("", ""), [["path", "one two three four"]], words=True)
    assert long.plain(16) == "path  one two\n      three four"
    assert Words("one two-three four").plain(9) == "one\ntwo-three\nfour"
    assert Code("a\nb").plain(4) == "    a\n    b"


def test_a_plain_page_has_no_letter_that_only_looks_like_a_blank() -> None:
    page = Page("Title", f"about {percent(0.5)}", [Section("one", [Words("x"), Missing("f", "c"), Picture(Path("figures/a.png"), "A.")])])
    assert page.plain(60) == ("Title\n=====\n\nabout 50.0 %\n\n\none\n---\n\nx\n\nMissing: f. `c` writes it.\n\nFigure figures/a.png: A.\n")


def test_what_is_missing_names_its_command() -> None:
    missing = Missing("run_1.json", "kvdistill train")
    assert missing.html() == '<p class="missing">Missing: run_1.json. <code>kvdistill train</code> writes it.</p>'
    assert missing.markdown(ROOT) == "> Missing: run\\_1.json. `kvdistill train` writes it."


def test_pictures_go_into_the_page_and_beside_the_markdown(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    path = tmp_path / "figures" / "a.png"
    path.write_bytes(b"\x89PNG")
    picture = Picture(path, 'a "b"')
    data = base64.b64encode(b"\x89PNG").decode()
    assert f'<img src="data:image/png;base64,{data}" alt="a &quot;b&quot;">' in picture.html()
    assert "](figures/a.png)" in picture.markdown(tmp_path)


def test_a_page_is_written_twice(tmp_path: Path) -> None:
    page = Page("T & U", "lead", [Section("one", [Words("x")]), Section("two", [])])
    assert page.write(tmp_path) == tmp_path / "report.html"
    html = (tmp_path / "report.html").read_text()
    assert "<title>T &amp; U</title>" in html and "<h2>two</h2>" in html and "color-scheme: light" in html and "@media print" in html
    assert 'name="viewport"' in html and "default-src 'none'" in html
    assert (tmp_path / "report.md").read_text() == "# T & U\n\nlead\n\n## one\n\nx\n\n## two\n"


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (3, "3"), (0.12345, "0.1235"), (999.96, "1000"), (12345.6, "12346"), (41.25, "41.25")]
)
def test_numbers(value: float | int | None, shown: str) -> None:
    assert number(value) == shown
    assert number(None, "never") == "never"


def test_percent() -> None:
    assert percent(0.93249) == "93.2\N{NO-BREAK SPACE}%" and percent(1.0) == "100.0\N{NO-BREAK SPACE}%"
