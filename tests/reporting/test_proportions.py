"""Exact shares against numbers worked out by hand and scipy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from kvdistill.reporting.proportions import exact_interval, fisher


def test_the_exact_interval_by_hand() -> None:
    # All of n: the lower end solves p^n = 0.025; none: the upper end solves (1 - p)^n = 0.025.
    interval = exact_interval(4, 4)
    assert (interval.low, interval.high) == (pytest.approx(0.025**0.25), 1.0)
    interval = exact_interval(0, 8)
    assert (interval.low, interval.high) == (0.0, pytest.approx(1 - 0.025**0.125))


@given(st.integers(1, 60).flatmap(lambda num: st.tuples(st.integers(0, num), st.just(num))))
def test_the_exact_interval_agrees_with_scipy(counts: tuple[int, int]) -> None:
    interval, reference = exact_interval(*counts), binomtest(*counts).proportion_ci(0.95, method="exact")
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high), abs=1e-9)


@pytest.mark.parametrize("counts", [(0, 0), (3, 2), (-1, 2)])
def test_an_impossible_count_is_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{counts[0]} of {counts[1]} runs is no share"):
        exact_interval(*counts)


def test_fisher_by_hand() -> None:
    # Margins of 4 and 4: 1 of C(8, 4) = 70 ways is as one-sided, on either side; with 5 and 5, 1 of 252.
    assert fisher((4, 4), (0, 4)) == pytest.approx(2 / 70)
    assert fisher((0, 5), (5, 5)) == pytest.approx(2 / 252)
    # 3/8 against 1/8: C(8,3)·C(8,1) + C(8,4) = 518 of C(16,4) = 1820 ways a side.
    assert fisher((3, 8), (1, 8)) == pytest.approx(2 * 518 / 1820)
    assert fisher((2, 4), (2, 4)) == pytest.approx(1.0)
