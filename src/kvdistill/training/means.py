"""Means of every term of the loss over the steps since somebody asked; they are kept in checkpoints, so a
line may span a kill.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.training.ranks import Ranks

TERMS = ("loss", "ce_student", "ce_teacher", "codi", "kv", "attention_kl")
"""The loss and its terms: what is said of an epoch."""


class Means:
    """Weighted sums by name. Nothing waits for the device before the means are asked for."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.weights: dict[str, float] = {}

    def add(self, values: Mapping[str, Tensor], weight: float) -> None:
        """Count each value ``weight`` times."""
        for name, value in values.items():
            part = weight * value.detach().float()
            self.sums[name] = self.sums[name] + part if name in self.sums else part
            self.weights[name] = self.weights.get(name, 0.0) + weight

    def take(self, ranks: Ranks) -> dict[str, float]:
        """The means over all processes, by name; counting starts anew."""
        totals = self._totals(ranks)
        self.sums, self.weights = {}, {}
        return {name: value / weight for name, (value, weight) in totals.items()}

    def state(self, ranks: Ranks) -> dict[str, Float[Tensor, " 2"]]:
        """Sum and weight of each name over all processes."""
        return {name: torch.tensor(pair, dtype=torch.float64) for name, pair in self._totals(ranks).items()}

    def load_state(
        self, state: Mapping[str, Float[Tensor, " 2"]], ranks: Ranks, device: torch.device | str = "cpu"
    ) -> None:
        """Go on from what ``state`` gave; the first process holds it for all."""
        held = state if ranks.rank == 0 else {}
        self.sums = {name: pair[0].float().to(device) for name, pair in held.items()}
        self.weights = {name: float(pair[1]) for name, pair in held.items()}

    def _totals(self, ranks: Ranks) -> dict[str, tuple[float, float]]:
        return ranks.totals({name: (float(value), self.weights[name]) for name, value in self.sums.items()})
