"""Blocks hold the same in HTML, in Markdown and as plain text, and text stays text."""

import re
from html import escape
from pathlib import Path

import pytest

from kvdistill.reporting.blocks import Code, Folded, Missing, Picture, Table, Words, percent

ROOT = Path()


def test_text_is_never_markup() -> None:
    words = Words("a < b & *c* [d]")
    assert words.html() == "<p>a &lt; b &amp; *c* [d]</p>"
    assert words.markdown(ROOT) == "a \\< b \\& \\*c\\* \\[d\\]"
    assert Code("<x>").html() == "<pre>&lt;x&gt;</pre>" and Code("<x>").markdown(ROOT) == "````\n<x>\n````"


def test_tables() -> None:
    table = Table(("mode", "n"), [["a|b", "<1>"]])
    assert table.markdown(ROOT) == "| mode | n |\n| --- | ---: |\n| a\\|b | \\<1\\> |"
    assert (
        '<thead><tr><th scope="col">mode</th>' in table.html()
        and "<td>a|b</td><td>&lt;1&gt;</td>" in table.html()
    )
    bare = Table(("", ""), [["seed", "1"]], words=True)
    assert (
        "<thead>" not in bare.html()
        and 'class="words"' in bare.html()
        and bare.markdown(ROOT).startswith("|  |  |\n| --- | --- |")
    )


def test_plain_tables_stand_in_columns_and_break_their_widest_cells() -> None:
    table = Table(("mode", "n"), [["a", "10.5"], ["bcd", "7"]])
    assert table.plain(40) == "mode     n\n----     -\na     10.5\nbcd      7"
    long = Table(("", ""), [["path", "one two three four"]], words=True)
    assert long.plain(16) == "path  one two\n      three four"
    assert Words("one two-three four").plain(9) == "one\ntwo-three\nfour"
    assert Code("a\nb").plain(4) == "    a\n    b"


def test_what_is_missing_names_its_command() -> None:
    missing = Missing("run_1.json", "kvdistill train")
    assert (
        missing.html()
        == '<p class="missing">Missing: run_1.json. <code>kvdistill train</code> writes it.</p>'
    )
    assert missing.markdown(ROOT) == "> Missing: run\\_1.json. `kvdistill train` writes it."


def test_a_picture_is_part_of_the_page_in_its_colors_and_a_file_beside_the_markdown(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "a.svg"
    path.parent.mkdir()
    clip = '<clipPath id="p1"/><g id="axes_1" clip-path="url(#p1)">'
    text = ' id="x" <b> : #0072b2; '
    line = '<path style="stroke: #0072b2"/>'
    label = f"<text>{escape(text, quote=False)}</text>"
    path.write_text(f'<?xml version="1.0"?><svg><style>*{{}}</style>{clip}{line}{label}</g></svg>')
    picture = Picture(path, path, 'a "b"')
    html = picture.html()
    # Both figures; ids only where something refers to them; colors follow the page; what looks like either in
    # a text is text.
    assert (
        html.count("<svg") == 2
        and 'class="wide"' in html
        and 'class="narrow"' in html
        and "<style" not in html
        and "<?xml" not in html
    )
    assert 'aria-label="a &quot;b&quot;"' in html and 'id="p1"' in html and "axes_1" not in html
    assert 'style="stroke: var(--blue)"' in html and escape(text, quote=False) in html
    assert "](figures/a.svg)" in picture.markdown(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "$x_{",
        "a^b",
        "back\\slash",
        "`tick",
        "<script>",
        "&lt;",
        "a|b",
        "~~gone~~",
        "[l](u)",
        "two\nlines",
        "# title",
        "*bold*",
        "_it_",
    ],
)
def test_markup_in_names_is_text_in_markdown(name: str) -> None:
    shown = " ".join(name.split())
    row = Table(("h",), [[name]]).markdown(ROOT).splitlines()[-1]
    for written in (Words(name).markdown(ROOT), row.removeprefix("| ").removesuffix(" |")):
        assert re.sub(r"\\([\W_])", r"\1", written) == shown
        # Nothing that Markdown reads is left bare.
        assert not set(re.sub(r"\\[\W_]", "", written)) & set("\\`*_<>[]#&$~|\n")


def test_code_in_markdown_cannot_leave_its_fence() -> None:
    text = "a\n````\n# not a title\n``````\nb"
    assert Code(text).markdown(ROOT) == f"{'`' * 7}\n{text}\n{'`' * 7}"
    assert Missing("f", "do `this`").markdown(ROOT) == "> Missing: f. `` do `this` `` writes it."


def test_a_folded_block_is_closed_in_html_and_open_elsewhere() -> None:
    folded = Folded("every <option>", Code("x"))
    assert folded.html() == "<details><summary>every &lt;option&gt;</summary>\n<pre>x</pre>\n</details>"
    assert (
        folded.markdown(ROOT) == "every \\<option\\>:\n\n````\nx\n````"
        and folded.plain(40) == "every <option>:\n\n    x"
    )


def test_only_a_table_of_many_numbers_tells_a_phone_to_scroll() -> None:
    assert 'class="hint"' in Table(("a",) * 5, []).html()
    assert 'class="hint"' not in Table(("a",) * 4, []).html() + Table(("a",) * 5, [], words=True).html()


def test_percent() -> None:
    assert percent(0.93249) == "93.2\N{NO-BREAK SPACE}%" and percent(1.0) == "100.0\N{NO-BREAK SPACE}%"


def test_a_long_name_of_a_column_is_wrapped_before_cells() -> None:
    table = Table(("arm", "found with 80 % power"), [("E1 against E2", "1")])
    # 13 characters and 5 (the longest word of the name) with two blanks between them.
    assert table.plain(20).splitlines()[-1] == "E1 against E2      1"
    assert "-----" in table.plain(20)
