"""Log-probabilities as text and as curves."""

import pytest

from kvdistill.records.schema import Curve
from kvdistill.reporting.nats import nats, nats_curves, nats_range
from kvdistill.reporting.palette import method

OLD = Curve(method="E1", steps=[0, 100, 200], accuracy=[0.1, 0.5, 0.8])
NEW = Curve(method="KV", steps=[0, 100], accuracy=[0.1, 0.9], nats=[-4.0, -0.25])


def test_numbers_as_text() -> None:
    assert [nats(value) for value in (None, -1.2345, -0.000123, 0.0)] == ["–", "-1.23", "-0.000123", "0"]
    assert nats_range(-1.5, -0.5) == "[-1.5, -0.5]"
    assert nats_range(-0.1, 0.02) == "[-0.1, 0]"
    assert nats_range(None, None) == "–"


@pytest.mark.parametrize("narrow", [False, True])
def test_curves_reach_up_to_certainty(narrow: bool) -> None:
    figure = nats_curves({"e1": OLD, "rkv": NEW}, narrow)
    (axes,) = figure.axes
    (line,) = axes.lines  # the curve without log-probabilities is left out
    assert list(line.get_xdata()) == [0, 100] and list(line.get_ydata()) == [-4.0, -0.25]
    assert line.get_color() == method("rkv").tint.light
    low, high = axes.get_ylim()
    assert low < -4.0 and 0 < high < 0.5
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training steps", "right answer (nats)")


def test_a_curve_without_doubt_has_an_axis() -> None:
    certain = Curve(method="KV", steps=[10], accuracy=[1.0], nats=[0.0])
    low, high = nats_curves({"rkv": certain}, narrow=False).axes[0].get_ylim()
    assert low < 0 < high
