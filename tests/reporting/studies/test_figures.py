"""What the figures of a study draw, by their data."""

from dataclasses import replace

import pytest

from kvdistill.records.schema import Curve
from kvdistill.reporting.palette import INK, Method
from kvdistill.reporting.studies.figures import forest, mean_curves, seed_dots
from kvdistill.reporting.studies.judged import Comparison, JudgedClaim
from kvdistill.reporting.studies.record import Estimate

PLAIN = Comparison(
    name="a > 0",
    first="E4",
    second="E1",
    measure="accuracy",
    kind="superiority",
    delta=0.02,
    seeds=[0, 1],
    outcome="supported",
    further_seeds=None,
    mean=0.04,
    sd=0.01,
    low=0.02,
    high=0.06,
)


def estimate(*values: float) -> Estimate:
    made = Estimate.of(dict(enumerate(values)))
    assert made is not None
    return made


def test_every_seed_has_its_dot_and_a_single_one_no_interval() -> None:
    (axes,) = seed_dots({"E1": estimate(0.4, 0.5), "E4": estimate(0.7)}, None, narrow=False).axes
    dots = [line.get_xdata() for line in axes.lines if line.get_marker() == "o"]
    means = [line.get_xdata() for line in axes.lines if line.get_marker() == "D"]
    assert [list(x) for x in dots] == [[40, 50], [70]] and [list(x) for x in means] == [[45], [70]]
    assert len(axes.collections) == 1 and [text.get_text() for text in axes.texts] == ["45.0 %", "70.0 %"]
    assert axes.get_xlabel() == "test accuracy (%)"
    names = {"E1": "self-distillation", "E4": "self-distillation from a frozen copy of the start"}
    look = lambda name: Method(names[name], INK, "o")  # noqa: E731
    (axes,) = seed_dots({"E1": estimate(0.4), "E4": estimate(0.7)}, None, narrow=False, look=look).axes
    told = [label.get_text() for label in axes.get_yticklabels()]
    assert told == ["self-distillation", "self-distillation\nfrom a frozen…"]
    with_chance = seed_dots({"E1": estimate(0.4)}, 0.125, narrow=True).axes[0]
    assert with_chance.get_xlabel() == "test accuracy (%),\ndashed: chance, 12.5 %"
    assert any(list(line.get_xdata()) == [12.5, 12.5] for line in with_chance.lines)


def test_curves_are_means_over_the_steps_that_all_seeds_have() -> None:
    curves = [
        Curve(method="E1", steps=[0, 10, 20], accuracy=[0.1, 0.5, 0.6]),
        Curve(method="E1", steps=[0, 20], accuracy=[0.3, 0.8]),
    ]
    apart = [Curve(method="E2", steps=[1], accuracy=[0.1]), Curve(method="E2", steps=[2], accuracy=[0.1])]
    (axes,) = mean_curves({"E1": curves, "E2": apart}, narrow=False).axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [0, 20] and list(line.get_ydata()) == pytest.approx([20, 70])
    (band,) = axes.collections
    ends = band.get_paths()[0].get_extents()
    assert (ends.y0, ends.y1) == pytest.approx((10, 80))
    assert [text.get_text() for text in axes.texts] == ["E1"]


def test_the_forest_is_in_deltas_with_the_bound_of_each_kind() -> None:
    wide = replace(
        PLAIN, name="b < δ", kind="negligible", outcome="inconclusive", mean=0.5, low=-0.5, high=1.5
    )
    untested = replace(PLAIN, name="c", mean=None)
    claims = [
        JudgedClaim(
            title="T",
            outcome="inconclusive",
            comparisons=[PLAIN, wide, untested],
            p_value=None,
            further_seeds=1,
        ),
        JudgedClaim(
            title="not tested", outcome="inconclusive", comparisons=[untested], p_value=None, further_seeds=1
        ),
    ]
    (axes,) = forest(claims, narrow=False).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["T", "a > 0", "b < δ"]
    assert [text.get_text() for text in axes.texts] == ["supported", "inconclusive"]

    def at(marker: str) -> list[float]:
        return [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == marker]

    assert at("D") == pytest.approx([2.0]) and at("|") == [0, 1] and at("<") == [-6] and at(">") == [6]
    narrow = forest(claims, narrow=True).axes[0]
    assert [text.get_text() for text in narrow.texts] == ["T", "a > 0", "supported", "b < δ", "inconclusive"]
