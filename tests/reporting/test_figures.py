"""Figures are drawn to the end of the data, in each format, and their labels do not stand on each other."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from kvdistill.record import Curve, Interval
from kvdistill.reporting import figures
from kvdistill.reporting.figures import COLOURS, Measured, accuracy_bars, accuracy_curves, loss_curves, passes_scatter

E1 = Curve(method="E1", steps=[0, 100, 200], accuracy=[0.1, 0.5, 0.8])
KV = Curve(method="KV", steps=[0, 100], accuracy=[0.1, 0.9])
ROWS = [
    Measured(label="latent", accuracy=0.9, interval=Interval(low=0.85, high=0.93), passes=7.0, colour=1),
    Measured(label="explicit CoT", accuracy=0.95, passes=40.0, colour=2),
    Measured(label="direct", accuracy=0.3),
]


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved, to look inside."""
    kept: list[Figure] = []
    save = figures.save

    def keep(figure: Figure, path: Path) -> None:
        kept.append(figure)
        save(figure, path)

    monkeypatch.setattr(figures, "save", keep)
    return kept


def words(figure: Figure) -> list[str]:
    return [text.get_text().strip() for axes in figure.axes for text in axes.texts]


def test_accuracy_curves_go_to_their_end_in_percent_with_their_names(tmp_path: Path, saved: list[Figure]) -> None:
    accuracy_curves([E1, KV], tmp_path / "deep" / "curves.png", cot=0.98, threshold=0.9)
    (axes,) = saved[0].axes
    e1, kv, cot, threshold = axes.lines
    assert list(e1.get_xdata()) == [0, 100, 200] and list(e1.get_ydata()) == pytest.approx([10, 50, 80])
    assert list(kv.get_xdata()) == [0, 100]
    assert list(cot.get_ydata()) == [98.0, 98.0] and list(threshold.get_ydata()) == [90.0, 90.0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training steps", "validation accuracy (%)")
    assert set(words(saved[0])) == {"E1", "KV", "explicit CoT 98 %", "threshold 90 %"}
    assert imread(tmp_path / "deep" / "curves.png").shape[:2] == (688, 1152)


def test_a_curve_of_one_evaluation_is_drawn(tmp_path: Path, saved: list[Figure]) -> None:
    accuracy_curves([Curve(method="E1", steps=[0], accuracy=[0.5])], tmp_path / "one.png")
    assert list(saved[0].axes[0].lines[0].get_ydata()) == [50.0]


def test_the_suffix_chooses_the_format(tmp_path: Path) -> None:
    accuracy_curves([E1], tmp_path / "curves.svg")
    assert "<svg" in (tmp_path / "curves.svg").read_text()


def test_bars_show_accuracy_and_interval(tmp_path: Path, saved: list[Figure]) -> None:
    accuracy_bars(ROWS, tmp_path / "bars.png")
    (axes,) = saved[0].axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([90, 95, 30])  # pyright: ignore[reportAttributeAccessIssue]
    assert words(saved[0]) == ["90.0 %", "95.0 %", "30.0 %"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["latent", "explicit CoT", "direct"]
    ends = sorted(x for line in axes.lines for x in line.get_xdata())
    assert (ends[0], ends[-1]) == pytest.approx((85, 93))
    assert to_rgb(axes.patches[0].get_facecolor()[:3]) == pytest.approx(to_rgb(COLOURS[1]))  # pyright: ignore[reportArgumentType]


def test_the_scatter_leaves_out_what_was_not_counted(tmp_path: Path, saved: list[Figure]) -> None:
    passes_scatter(ROWS, tmp_path / "passes.png")
    (axes,) = saved[0].axes
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() != "None"]
    assert points == [(7.0, 90.0), (40.0, 95.0)]
    assert words(saved[0]) == ["latent", "explicit CoT"]


def test_each_loss_term_has_its_panel_and_names_its_runs_where_there_are_two(tmp_path: Path, saved: list[Figure]) -> None:
    nan = float("nan")
    loss_curves(
        {"ce": {"e1": {0: 2.0, 10: 1.0}, "kv": {0: 2.0, 10: nan}}, "kv": {"kv": {0: nan}}, "codi": {"e1": {5: 1.0}}}, tmp_path / "l.png"
    )
    ce, kv, codi = saved[0].axes
    assert [axes.get_title(loc="left") for axes in (ce, kv, codi)] == ["ce", "kv", "codi"]
    assert sorted(text.get_text() for text in ce.texts) == ["e1", "kv"] and not kv.texts
    assert [line.get_color() for line in (*ce.lines, *kv.lines, *codi.lines)] == [COLOURS[0], COLOURS[1], COLOURS[1], COLOURS[0]]
    loss_curves({"ce": {"run": {0: 2.0, 10: 1.0}}}, tmp_path / "one.png")
    assert words(saved[1]) == []


def test_names_are_spread_by_hand() -> None:
    assert figures._spread([0.0, 5.0], 1.0) == [0.0, 5.0]
    assert figures._spread([4.0, 4.0], 1.0) == [3.5, 4.5]
    # 1 and 1 take 0.5 and 1.5; 2 comes too near, so that the three stand about their mean 4/3.
    assert figures._spread([1.0, 1.0, 2.0], 1.0) == pytest.approx([1 / 3, 4 / 3, 7 / 3])
    assert figures._spread([], 1.0) == []


@given(st.lists(st.floats(0, 100), max_size=12).map(sorted))
def test_names_never_stand_on_each_other(heights: list[float]) -> None:
    places = figures._spread(heights, 5.0)
    assert len(places) == len(heights)
    assert all(b - a >= 5.0 - 1e-9 for a, b in pairwise(places))
    assert sum(places) == pytest.approx(sum(heights), abs=1e-6)


def test_colours_are_dark_enough_on_white_and_all_different() -> None:
    def luminance(colour: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert len(set(COLOURS)) == 8
    assert all(1.05 / (luminance(colour) + 0.05) >= 3.0 for colour in COLOURS)
