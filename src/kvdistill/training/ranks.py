"""The processes of a distributed run. Everything else is single-device code that asks here for sums."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process among ``size``."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def here() -> "Ranks":
        """The processes that torchrun started, or this one alone."""
        return (
            Ranks(dist.get_rank(), dist.get_world_size())
            if dist.is_available() and dist.is_initialized()
            else Ranks()
        )

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()

    def sum(self, values: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """The sum over all processes, outside the autograd graph; every process has to ask."""
        if self.size == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def largest(self, number: int, device: torch.device | str = "cpu") -> int:
        """The largest of the processes' numbers; every process has to ask."""
        if self.size == 1:
            return number
        largest = torch.tensor(number, device=device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def totals(self, numbers: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Sums over all processes by name; a name may be missing on some of them."""
        if self.size == 1:
            return dict(numbers)
        gathered: list[dict[str, tuple[float, float]]] = [{} for _ in range(self.size)]
        dist.all_gather_object(gathered, dict(numbers))
        names = dict.fromkeys(name for some in gathered for name in some)
        return {
            name: tuple(map(sum, zip(*(some[name] for some in gathered if name in some), strict=True)))
            for name in names
        }  # pyright: ignore[reportReturnType]
