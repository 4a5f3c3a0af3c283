"""An estimate over seeds, by hand."""

import pytest

from kvdistill.reporting.studies.estimate import Estimate


def test_estimates_by_hand() -> None:
    # mean 0.03, sd 0.01, t of 2 degrees of freedom 4.302653
    estimate = Estimate.of({0: 0.02, 4: 0.03, 5: 0.04})
    assert estimate is not None
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx(
        (0.03, 0.0051586, 0.0548414), abs=1e-6
    )
    assert (
        Estimate.of({3: 0.5}) == Estimate(by_seed={3: 0.5}, mean=0.5, low=None, high=None)
        and Estimate.of({}) is None
    )
