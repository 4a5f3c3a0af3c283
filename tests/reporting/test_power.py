"""Power against published tables, the noncentral t distribution of scipy, and simulated seeds."""

import numpy as np
import pytest
from scipy import stats

from kvdistill.reporting.power import detectable_effect, seeds_needed


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_are_those_of_the_power_tables(effect: float, seeds: int) -> None:
    assert seeds_needed(1.0, effect) == seeds


def test_the_seeds_needed_reach_their_power_in_simulation() -> None:
    num = seeds_needed(1.0, 1.0)
    samples = np.random.default_rng(0).normal(1.0, 1.0, (4000, num))
    found = stats.ttest_1samp(samples, 0, axis=1).confidence_interval().low > 0
    assert 0.78 < found.mean() < 0.85
    assert seeds_needed(0.0, 0.02) == 2


@pytest.mark.parametrize("num", [2, 4, 8, 34])
def test_the_effect_that_seeds_can_show_has_its_power_by_scipy(num: int) -> None:
    found = detectable_effect(1.0, num)
    critical = stats.t.ppf(0.975, num - 1)
    assert stats.nct.sf(critical, num - 1, found * np.sqrt(num)) == pytest.approx(0.8, abs=1e-6)
    assert detectable_effect(0.03, num) == pytest.approx(0.03 * found)


def test_it_is_that_of_the_power_table() -> None:
    # Cohen's table: 34 pairs for an effect of 0.50 and 15 for 0.80, where the power is a little above 0.8.
    assert detectable_effect(1.0, 34) == pytest.approx(0.5, abs=0.006)
    assert detectable_effect(1.0, 15) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("num", [2, 3, 8, 40])
def test_it_is_the_inverse_of_the_seeds_needed(num: int) -> None:
    effect = detectable_effect(0.05, num)
    assert seeds_needed(0.05, effect * 1.001) == num
    assert seeds_needed(0.05, effect * 0.999) == num + 1


def test_the_effect_is_found_in_four_of_five_simulations() -> None:
    samples = np.random.default_rng(1).normal(detectable_effect(1.0, 8), 1.0, (4000, 8))
    found = stats.ttest_1samp(samples, 0, axis=1).confidence_interval().low > 0
    assert 0.78 < found.mean() < 0.82
    assert detectable_effect(0.0, 8) == 0
