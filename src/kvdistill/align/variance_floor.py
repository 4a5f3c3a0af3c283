"""Variance floor: keeps the channels of a trained adapter's cache as spread out as the student's own."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kvdistill.kv import ModelKV
from kvdistill.ops import EPSILON, to_float32


def variance_floor(
    moved: ModelKV, student: ModelKV, all_reduce_sum: Callable[[Tensor], Tensor] | None = None
) -> Float[Tensor, ""]:
    """What the standard deviation of a channel lacks to the student's own, relative to it.

    A statistic of the batch, over the tokens of all processes: a sample's term depends on the others.

    Args:
        moved: The teacher's cache in the student's geometry, N slots, in the graph of the adapter.
        student: The student's own cache over the same N tokens.
        all_reduce_sum: All-reduce sum over the processes; None for a single one.

    Returns:
        ``max(0, 1 - std / own std)``, mean over the channels of each tensor, then over layers, keys and
        values: 1 where every channel is a constant. 0 for fewer than two tokens.

    Source: VICReg, https://arxiv.org/abs/2105.04906, equation 1.
    Differs: the floor is the student's own standard deviation of the channel, over tokens of the batch.
    """
    local = []
    for ours, own in zip(moved.layers, student.layers, strict=True):
        # (B, N): the heads of a layer hold the same tokens. Padding and uncovered tokens are left out.
        valid = (ours.mask & own.mask)[:, 0]
        for name in ("keys", "values"):
            local += [
                Moments.of(getattr(ours, name), valid),
                Moments.of(getattr(own, name).detach(), valid),
            ]
    found = local
    if all_reduce_sum is not None:
        found = over_processes(local, len(moved.layers[0].mask), all_reduce_sum)
    terms = []
    for ours, own in zip(found[::2], found[1::2], strict=True):
        # The epsilon under the root keeps the gradient finite where a channel is constant.
        std, floor = ((part.variance() + EPSILON).sqrt() for part in (ours, own))
        # A single token has no variance to keep.
        terms.append((1 - std / floor).clamp_min(0).mean() * (ours.count > 1))
    return torch.stack(terms).mean().float()


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, sums and sums of squares of each channel, in float64, which sums over processes do not round."""

    count: Float[Tensor, ""]
    sums: Float[Tensor, " c"]
    squares: Float[Tensor, " c"]

    @staticmethod
    def of(states: Float[Tensor, "B H N W"], valid: Bool[Tensor, "B N"]) -> "Moments":
        """The moments of the valid tokens, of ``c = H W`` channels.

        Args:
            states: Keys or values.
            valid: True where a token counts.
        """
        # (B, H, N, W) -> (n, H, W) -> (n, c)
        tokens = to_float32(states).transpose(1, 2)[valid].flatten(1)
        count = valid.sum().double()
        mean = tokens.sum(0) / max(len(tokens), 1)
        # Squares around the mean, since a channel's mean may be much larger than its spread.
        around = (tokens - mean).square().sum(0).double()
        mean = mean.double()
        return Moments(count, count * mean, around + count * mean.square())

    def variance(self) -> Float[Tensor, " c"]:
        """Variance of each channel; 0 without tokens."""
        count = self.count.clamp_min(1)
        return (self.squares / count - (self.sums / count).square()).clamp_min(0)


def over_processes(
    local: list[Moments], samples: int, all_reduce_sum: Callable[[Tensor], Tensor]
) -> list[Moments]:
    """Moments over the tokens of all processes, by one all-reduce.

    Args:
        local: Moments of this process's tokens.
        samples: B, the samples of this process.
        all_reduce_sum: All-reduce sum over the processes, which is not differentiable.

    Returns:
        The sums over all processes. Their gradient is that of this process's own tokens, over its share of
        the samples, with which the trainer weighs the loss: averaged over the processes it is the gradient of
        one batch.
    """
    parts = [torch.tensor([samples]).to(local[0].sums)]
    for each in local:
        parts += [each.count[None], each.sums, each.squares]
    own = torch.cat(parts)
    total = all_reduce_sum(own.detach()).to(own)
    share = samples / total[0]
    # The value of the sums over all processes, with the gradient of this one's.
    joined = total + (own - own.detach()) / share
    _, *places = joined.split([len(part) for part in parts])
    found = []
    for start in range(0, len(places), 3):
        count, sums, squares = places[start : start + 3]
        found.append(Moments(count[0], sums, squares))
    return found
