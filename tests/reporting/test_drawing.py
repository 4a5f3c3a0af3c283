"""Names do not stand on each other, ticks count whole things, and a figure that fails does not take the
report with it.
"""

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from kvdistill.reporting import drawing
from kvdistill.reporting.blocks import Picture, Words
from kvdistill.reporting.drawing import Label, canvas, count_on, draw, label_ends, shortened


def test_names_are_spread_by_hand() -> None:
    assert drawing._spread([0.0, 5.0], 1.0) == [0.0, 5.0]
    assert drawing._spread([4.0, 4.0], 1.0) == [3.5, 4.5]
    # 1 and 1 take 0.5 and 1.5; 2 comes too near, so that the three stand about their mean 4/3.
    assert drawing._spread([1.0, 1.0, 2.0], 1.0) == pytest.approx([1 / 3, 4 / 3, 7 / 3])
    assert drawing._spread([], 1.0) == []


@given(st.lists(st.floats(0, 100), max_size=12).map(sorted))
def test_names_never_stand_on_each_other(heights: list[float]) -> None:
    places = drawing._spread(heights, 5.0)
    assert len(places) == len(heights)
    assert all(b - a >= 5.0 - 1e-9 for a, b in pairwise(places))
    assert sum(places) == pytest.approx(sum(heights), abs=1e-6)


def painted(text: str, narrow: bool) -> Figure:
    figure, axes = canvas(3.0, narrow)
    axes.set_title(text)
    label_ends(axes, [Label(1.0, 0.5, text, "#0072b2", "o")], narrow)
    return figure


def texts(path: Path) -> list[str]:
    return [
        "".join(node.itertext()) for node in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    ]


@pytest.mark.parametrize(
    "name", ["$x_{", "a$b$c", "\\frac", "<b>&amp;", "`|^~", "\x1b[31m", "\N{GRINNING FACE}", "%s {0}"]
)
def test_a_name_is_drawn_as_it_is_for_a_screen_and_for_a_phone(tmp_path: Path, name: str) -> None:
    drawn = draw(lambda narrow: painted(name, narrow), tmp_path / "deep" / "a.svg", "caption")
    assert drawn == Picture(tmp_path / "deep" / "a.svg", tmp_path / "deep" / "a-narrow.svg", "caption")
    for path in (drawn.path, drawn.narrow):
        assert texts(path).count(name.replace("\x1b", "\N{REPLACEMENT CHARACTER}")) == 2
    widths = [
        float(ElementTree.parse(path).getroot().get("width", "").removesuffix("pt"))
        for path in (drawn.path, drawn.narrow)
    ]
    assert widths == pytest.approx([8.4 * 72, 3.72 * 72])


def test_the_same_figure_is_the_same_file_and_two_figures_share_no_id(tmp_path: Path) -> None:
    draw(lambda narrow: painted("a", narrow), tmp_path / "a.svg", "")
    first = (tmp_path / "a.svg").read_text()
    draw(lambda narrow: painted("a", narrow), tmp_path / "a.svg", "")
    draw(lambda narrow: painted("a", narrow), tmp_path / "b.svg", "")
    assert (tmp_path / "a.svg").read_text() == first
    used = [
        set(re.findall(r'id="([mp][0-9a-f]{10})"', (tmp_path / name).read_text()))
        for name in ("a.svg", "a-narrow.svg", "b.svg")
    ]
    assert used[0] and not used[0] & used[1] and not used[0] & used[2]


def test_a_figure_that_fails_is_a_sentence_and_leaves_no_old_file(tmp_path: Path) -> None:
    def fail(narrow: bool) -> Figure:
        raise ArithmeticError("no such\n number")

    draw(lambda narrow: painted("a", narrow), tmp_path / "a.svg", "")
    assert draw(fail, tmp_path / "a.svg", "") == Words(
        "The figure a.svg could not be drawn: no such number. The tables hold its numbers."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_no_fault_of_the_figure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        draw(lambda narrow: painted("a", narrow), tmp_path / "file" / "a.svg", "")


@settings(max_examples=30)  # each draws a figure
@given(st.floats(0, 5000), st.floats(1, 5000))
@example(1.6, 1.7)
def test_what_is_counted_has_ticks_at_whole_numbers_labelled_so(start: float, length: float) -> None:
    figure, axes = canvas(3.0, narrow=False)
    axes.set_xlim(start, start + length)
    count_on(axes)
    figure.draw_without_rendering()
    ticks = list(axes.get_xticks())
    labels = [label.get_text().replace("\N{NARROW NO-BREAK SPACE}", "") for label in axes.get_xticklabels()]
    assert all(tick == int(tick) for tick in ticks)
    assert [float(label.replace("\N{MINUS SIGN}", "-")) for label in labels] == ticks


def test_long_names_are_cut_to_one_line() -> None:
    assert shortened("a\nb" + "c" * 60) == "a b" + "c" * 36 + "…" and shortened("short") == "short"
