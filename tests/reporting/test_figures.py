"""Figures are drawn to the end of the data, each method in its color, with chance where it is known."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from kvdistill.records.intervals import Interval
from kvdistill.records.schema import Curve
from kvdistill.reporting.blocks import Picture
from kvdistill.reporting.drawing import draw
from kvdistill.reporting.figures import (
    Measured,
    accuracy_bars,
    accuracy_curves,
    curve_name,
    loss_curves,
    passes_scatter,
)
from kvdistill.reporting.palette import MUTED, method

E1 = Curve(method="E1", steps=[0, 100, 200], accuracy=[0.1, 0.5, 0.8])
KV = Curve(method="KV", steps=[0, 100], accuracy=[0.1, 0.9])
CURVES = {"e1": E1, "rkv": KV}
ROWS = [
    Measured(label="latent", accuracy=0.9, interval=Interval(low=0.85, high=0.93), passes=7.0, key="rkv"),
    Measured(label="CoT", accuracy=0.95, passes=40.0, key="cot"),
    Measured(label="direct", accuracy=0.3),
]


def words(figure: Figure) -> list[str]:
    return [text.get_text().strip() for axes in figure.axes for text in axes.texts]


def named(figure: Figure) -> list[str]:
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


def test_accuracy_curves_go_to_their_end_in_percent_with_their_names() -> None:
    figure = accuracy_curves(CURVES, {"CoT": 0.98, "chance": 0.125}, narrow=False)
    (axes,) = figure.axes
    e1, kv, cot, chance = axes.lines
    assert list(e1.get_xdata()) == [0, 100, 200] and list(e1.get_ydata()) == pytest.approx([10, 50, 80])
    assert list(kv.get_xdata()) == [0, 100]
    assert [line.get_color() for line in (e1, kv)] == [method("e1").tint.light, method("rkv").tint.light]
    assert list(cot.get_ydata()) == [98.0, 98.0] and list(chance.get_ydata()) == [12.5, 12.5]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training steps", "validation accuracy (%)")
    assert set(words(figure)) == {
        "latent, no KV term (E1)",
        "latent, R-KV",
        "CoT 98.0 %",
        "chance 12.5 %",
    }


def test_a_phone_has_the_names_below() -> None:
    figure = accuracy_curves(CURVES, {"chance": 0.125}, narrow=True)
    assert (
        named(figure) == ["latent, no KV term (E1)", "latent, R-KV", "chance 12.5 %"] and words(figure) == []
    )
    assert named(passes_scatter(ROWS, None, narrow=True)) == ["latent", "CoT"]
    bars = accuracy_bars(ROWS, None, narrow=True)
    assert [text for text in words(bars) if "%" not in text] == ["latent", "CoT", "direct"]
    assert not bars.axes[0].get_yticklabels()


def test_a_curve_of_a_method_of_ones_own_keeps_its_name() -> None:
    assert curve_name("mine", KV) == "KV" and curve_name("rkv", KV) == "latent, R-KV"


def test_a_curve_of_one_evaluation_is_drawn() -> None:
    figure = accuracy_curves({"e1": Curve(method="E1", steps=[0], accuracy=[0.5])}, {}, narrow=False)
    (line,) = figure.axes[0].lines
    assert list(line.get_ydata()) == [50.0] and line.get_marker() == "o"


def test_bars_show_accuracy_interval_and_chance() -> None:
    figure = accuracy_bars(ROWS, 0.125, narrow=False)
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([90, 95, 30])
    assert words(figure) == ["90.0 %", "95.0 %", "30.0 %"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["latent", "CoT", "direct"]
    ends = sorted(x for line in axes.lines for x in line.get_xdata())
    assert ends[:2] == [12.5, 12.5] and (ends[2], ends[-1]) == pytest.approx((85, 93))
    assert "dashed: chance, 12.5 %" in axes.get_xlabel()
    colors = [method("rkv").tint.light, method("cot").tint.light, MUTED.light]
    assert [bar.get_facecolor()[:3] for bar in axes.patches] == [
        pytest.approx(to_rgb(color)) for color in colors
    ]


def test_the_scatter_leaves_out_what_was_not_counted_and_its_ticks_are_whole() -> None:
    figure = passes_scatter(ROWS, 0.125, narrow=False)
    (axes,) = figure.axes
    points = [
        (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() != "None"
    ]
    assert points == [(7.0, 90.0), (40.0, 95.0)]
    assert words(figure) == ["chance 12.5 %", "latent", "CoT"]
    few = passes_scatter(
        [Measured(label="a", accuracy=0.5, passes=passes) for passes in (2.0, 7.0, 7.7, 8.0)],
        None,
        narrow=False,
    )
    few.draw_without_rendering()
    assert all(tick == int(tick) for tick in few.axes[0].get_xticks())


def test_each_term_has_its_panel_and_runs_are_named_once() -> None:
    nan = float("nan")
    terms = {
        "ce": {"e1": {0: 2.0, 10: 1.0}, "rkv": {0: 2.0, 10: nan}},
        "kv": {"rkv": {0: nan}},
        "codi": {"e1": {5: 1.0}},
    }
    figure = loss_curves(terms, narrow=False)
    ce, kv, codi = figure.axes
    assert [axes.get_title(loc="left") for axes in (ce, kv, codi)] == ["ce", "kv", "codi"]
    assert named(figure) == ["latent, no KV term (E1)", "latent, R-KV"]
    e1, rkv = method("e1").tint.light, method("rkv").tint.light
    assert [line.get_color() for line in (*ce.lines, *kv.lines, *codi.lines)] == [e1, rkv, rkv, e1]
    assert codi.lines[0].get_marker() == "o"
    assert named(loss_curves({"ce": {"run": {0: 2.0, 10: 1.0}}}, narrow=True)) == []


PAINTED = {
    "curves": partial(accuracy_curves, CURVES, {"chance": 0.1}),
    "bars": partial(accuracy_bars, ROWS, 0.1),
    "scatter": partial(passes_scatter, ROWS, 0.1),
    "losses": partial(loss_curves, {"ce": {"e1": {0: 2.0, 10: 1.0}, "rkv": {0: 2.0}}}),
}


@pytest.mark.parametrize("paint", PAINTED.values(), ids=PAINTED.keys())
def test_every_figure_is_written_for_a_screen_and_for_a_phone(
    tmp_path: Path, paint: Callable[[bool], Figure]
) -> None:
    drawn = draw(paint, tmp_path / "a.svg", "")
    assert isinstance(drawn, Picture) and drawn.path.is_file() and drawn.narrow.is_file()
