"""Running means of the loss terms between two log lines, kept in checkpoints so that a resume loses none."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.training.ranks import Ranks

TERMS = (
    "loss",
    "ce_student",
    "ce_teacher",
    "codi",
    "kv",
    "attention_kl",
    "step_ce",
    "mux",
    "step_decoder",
    "route_ce",
)
"""The loss and its terms, in the order of a log line."""


class Means:
    """Weighted sums by name, on the device; only reading the means synchronizes with it."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.weights: dict[str, float] = {}

    def add(self, values: Mapping[str, Tensor], weight: float) -> None:
        """Add scalars with a weight.

        Args:
            values: Scalar tensors by name.
            weight: Weight of all of them, such as the share of samples in the step.
        """
        for name, value in values.items():
            part = weight * value.detach().float()
            if name in self.sums:
                part = self.sums[name] + part
            self.sums[name] = part
            self.weights[name] = self.weights.get(name, 0.0) + weight

    def take(self, ranks: Ranks) -> dict[str, float]:
        """Means over all processes by name; resets the sums. Every process has to call it."""
        totals = self._totals(ranks)
        self.sums, self.weights = {}, {}
        return {name: value / weight for name, (value, weight) in totals.items()}

    def state(self, ranks: Ranks) -> dict[str, Float[Tensor, " 2"]]:
        """Sum and weight of each name over all processes, for checkpoints. Every process has to call it."""
        return {name: torch.tensor(pair, dtype=torch.float64) for name, pair in self._totals(ranks).items()}

    def load_state(
        self, state: Mapping[str, Float[Tensor, " 2"]], ranks: Ranks, device: torch.device | str = "cpu"
    ) -> None:
        """Resume from what ``state`` gave.

        Args:
            state: Sum and weight by name, over all processes.
            ranks: The first process takes the sums, the others start at zero, so that totals are right.
            device: Where the sums are kept.
        """
        held = state
        if ranks.rank > 0:
            held = {}
        self.sums = {name: pair[0].float().to(device) for name, pair in held.items()}
        self.weights = {name: float(pair[1]) for name, pair in held.items()}

    def _totals(self, ranks: Ranks) -> dict[str, tuple[float, float]]:
        return ranks.totals({name: (float(value), self.weights[name]) for name, value in self.sums.items()})
