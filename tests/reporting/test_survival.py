"""Censored times against numbers worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from kvdistill.records.schema import Curve
from kvdistill.reporting.survival import CensoredTime, log_rank, median_time, time_to


def times(*steps: int, censored: tuple[int, ...] = ()) -> list[CensoredTime]:
    """Runs that reached the goal at ``steps``, and runs that ended without it."""
    reached = [CensoredTime(steps=step, reached=True) for step in steps]
    return [*reached, *(CensoredTime(steps=step, reached=False) for step in censored)]


def test_the_time_is_the_first_evaluation_at_the_goal_or_the_end() -> None:
    curve = Curve(method="kv", steps=[10, 20, 30], accuracy=[0.5, 0.9, 0.8])
    assert time_to(0.9, curve) == CensoredTime(steps=20, reached=True)
    assert time_to(0.91, curve) == CensoredTime(steps=30, reached=False)
    assert time_to(0.3 * 3, curve).reached  # 0.9 up to rounding


def test_the_median_by_hand() -> None:
    assert median_time(times(10, 20, 30)) == 20
    # Of four runs two had the event at 20: half are left.
    assert median_time(times(10, 20, censored=(40, 40))) == 20
    assert median_time(times(10, censored=(40, 40))) is None
    assert median_time(times(censored=(40,))) is None
    # One run leaves at 15: of the three left at 20 two remain, 3/4 · 2/3 = 1/2.
    assert median_time(times(10, 20, 30, censored=(15, 40))) == 30
    assert median_time(times(10, 20, 30, censored=(15,))) == 20


def test_log_rank_by_hand() -> None:
    # Two runs each. At 10 one of four has the event, in the first group: expected 1/2, variance 1/4.
    # At 20 one of three, in the first group too: expected 1/3, variance 2/9. Observed 2: z = 7/6 / √(17/36).
    z = (7 / 6) / np.sqrt(17 / 36)
    expected = 2 * stats.norm.sf(z)
    assert log_rank(times(10, 20), times(censored=(30, 30))) == pytest.approx(expected)
    assert log_rank(times(censored=(30, 30)), times(10, 20)) == pytest.approx(expected)


def test_seeds_that_all_learn_and_seeds_that_never_do_are_told_apart() -> None:
    p_value = log_rank(times(75, 75, 75, 100), times(censored=(250,) * 4))
    assert p_value is not None and p_value < 0.01
    same = log_rank(times(75, 100, 125), times(75, 100, 125))
    assert same == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (times(censored=(30,)), times(censored=(20, 30))),  # no event
        (times(10, 10), times(10)),  # all at once
        (times(20), times(censored=(10,))),  # the other group had ended before
    ],
)
def test_where_no_event_tells_the_groups_apart_there_is_no_p_value(
    first: list[CensoredTime], second: list[CensoredTime]
) -> None:
    assert log_rank(first, second) is None
