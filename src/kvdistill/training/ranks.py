"""Collectives of a distributed run (all-reduce, barrier); all other code is single-device."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """Rank of this process among ``size`` processes; with ``size`` 1 every collective is the identity."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def here() -> "Ranks":
        """Rank in the initialized process group, or a single process where there is none."""
        if dist.is_available() and dist.is_initialized():
            return Ranks(dist.get_rank(), dist.get_world_size())
        return Ranks()

    def wait(self) -> None:
        """Barrier: wait until every process has called it."""
        if self.size > 1:
            dist.barrier()

    def sum(self, values: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """All-reduce: sum over all processes, not differentiable. Every process has to call it."""
        if self.size == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def largest(self, number: int, device: torch.device | str = "cpu") -> int:
        """All-reduce: maximum over all processes. Every process has to call it."""
        if self.size == 1:
            return number
        largest = torch.tensor(number, device=device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def totals(self, numbers: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Sums over all processes by name. Every process has to call it.

        Args:
            numbers: Sum and weight by name; a name may be missing on some processes.

        Returns:
            Total sum and total weight of every name.
        """
        if self.size == 1:
            return dict(numbers)
        gathered: list[dict[str, tuple[float, float]]] = [{} for _ in range(self.size)]
        dist.all_gather_object(gathered, dict(numbers))
        names = dict.fromkeys(name for some in gathered for name in some)
        return {
            name: tuple(map(sum, zip(*(some[name] for some in gathered if name in some), strict=True)))
            for name in names
        }  # pyright: ignore[reportReturnType]
