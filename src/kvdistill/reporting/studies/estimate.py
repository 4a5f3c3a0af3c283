"""A measure over seeds: its mean with Student's t interval."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kvdistill.reporting.stats import paired_t_interval


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measure over seeds: its mean and the 95 % t interval of the mean (None for a single seed)."""

    by_seed: dict[int, float]
    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, by_seed: Mapping[int, float]) -> "Estimate | None":
        """The estimate from values by seed; None without any seed."""
        values = list(by_seed.values())
        if not values:
            return None
        low, high = None, None
        if len(values) > 1:
            interval = paired_t_interval(values)
            low, high = interval.low, interval.high
        return cls(by_seed=dict(by_seed), mean=float(np.mean(values)), low=low, high=high)
