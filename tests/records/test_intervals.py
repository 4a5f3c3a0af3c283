"""Intervals against numbers worked out by hand and scipy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from kvdistill.records.intervals import mean_interval, wilson_interval


def test_wilson_interval_by_hand() -> None:
    # z² = 3.841459; half of 10: centre 1/2, half width z / (1 + z²/10) · sqrt(0.025 + z²/400) = 0.263403
    interval = wilson_interval(5, 10)
    assert (interval.low, interval.high) == pytest.approx((0.236593, 0.763407), abs=1e-6)
    # All right: from n / (n + z²) to 1
    interval = wilson_interval(10, 10)
    assert (interval.low, interval.high) == (pytest.approx(10 / 13.841459, abs=1e-6), 1.0)
    assert wilson_interval(0, 10).low == 0.0


@given(
    st.integers(1, 2000).flatmap(lambda num: st.tuples(st.integers(0, num), st.just(num))),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_wilson_interval_agrees_with_scipy(counts: tuple[int, int], confidence: float) -> None:
    interval = wilson_interval(*counts, confidence=confidence)
    reference = binomtest(*counts).proportion_ci(confidence, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high), abs=1e-9)


@pytest.mark.parametrize("counts", [(0, 0), (3, 2), (-1, 2)])
def test_an_impossible_count_is_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError,
        match=f"{counts[0]} correct of {counts[1]} questions is no accuracy: evaluate at least one",
    ):
        wilson_interval(*counts)


def test_mean_interval_by_hand() -> None:
    # mean -2, sd 1 of three values: -2 ± 1.959964 · 1 / √3
    interval = mean_interval([-1.0, -2.0, -3.0])
    assert (interval.low, interval.high) == pytest.approx((-2 - 1.1315857, -2 + 1.1315857), abs=1e-6)
    with pytest.raises(ValueError, match="1 values have no spread: give the values of at least two"):
        mean_interval([0.5])
