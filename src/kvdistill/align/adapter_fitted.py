"""Adapters that calibration fits: ridge regression, and maps trained along with the student."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kvdistill.align.adapter_base import AdapterSettings, Block, affine_map
from kvdistill.align.variance_floor import variance_floor
from kvdistill.kv import ModelKV
from kvdistill.ops import EPSILON, to_float32

PENALTIES = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)
"""Ridge penalties, relative to the mean variance of the inputs."""


@dataclass(frozen=True, kw_only=True)
class Ridge(AdapterSettings):
    """Ridge regression onto the student's own cache on calibration text; fixed from then on.

    The penalty of each map is chosen from the grid by its error on samples that are held out of the fit.

    Source: ours; ridge regression: https://doi.org/10.1080/00401706.1970.10488634, equation 2.2.
    """

    kind: Literal["ridge"] = "ridge"
    penalties: tuple[float, ...] = PENALTIES
    """Relative to the mean variance of the inputs."""
    shared: bool = False
    """Whether all student layers share one map, of the mean of their teacher layers by the layer map."""

    @property
    def one_map(self) -> bool:
        """``shared``."""
        return self.shared

    def __post_init__(self) -> None:
        if not self.penalties or min(self.penalties) <= 0:
            raise ValueError(f"ridge: penalties {self.penalties} have to be one or more numbers above 0")

    def penalty_grid(self) -> tuple[float, ...]:
        """The configured penalties."""
        return self.penalties


@dataclass(frozen=True, kw_only=True)
class Learned(AdapterSettings):
    """Maps trained along with the student, with a term that keeps them from shrinking their target.

    A map over heads x width contains every mixing of heads (a 1x1 convolution over heads) and every linear
    map of their widths. ``reconstruction`` adds the error of the moved cache against the student's own,
    ``variance_floor`` what the standard deviation of a channel lacks to the student's own; both are relative,
    so that 1 is a constant. The error is a mean over samples, and the floor is taken over the tokens of all
    processes, so that neither depends on how samples are distributed over them.

    Source: ours; variance floor: VICReg, https://arxiv.org/abs/2105.04906, equation 1.
    Differs: the floor is the student's own standard deviation of the channel, over tokens of the batch.
    """

    kind: Literal["learned"] = "learned"
    initial: Literal["ridge", "orthogonal"] = "ridge"
    """Where the maps start: from ridge regression on calibration text, or from an orthogonal matrix."""
    term: Literal["reconstruction", "variance_floor"] = "reconstruction"
    """What is added to the loss; see above."""
    weight: float = 1.0
    """Weight of the term in the loss."""
    shared: bool = False
    """Whether all student layers share one map, of the mean of their teacher layers by the layer map."""
    learns: ClassVar[bool] = True

    @property
    def one_map(self) -> bool:
        """``shared``."""
        return self.shared

    def penalty_grid(self) -> tuple[float, ...]:
        """The grid of ``ridge`` where the maps start from it."""
        if self.initial == "ridge":
            return PENALTIES
        return ()

    def start(self, block: Block, draw: torch.Generator) -> nn.Module:
        """An orthogonal map, which ``ridge`` replaces at calibration."""
        weight = torch.empty(block.outputs, block.inputs)
        # An orthogonal map to more dimensions keeps the norm; the gain restores the mean square.
        gain = max(1.0, math.sqrt(block.outputs / block.inputs))
        nn.init.orthogonal_(weight, gain=gain, generator=draw)
        return affine_map(weight)

    def regularizer(
        self,
        moved: ModelKV,
        student: ModelKV,
        scale: Float[Tensor, "L 2"] | None = None,
        all_reduce_sum: Callable[[Tensor], Tensor] | None = None,
    ) -> Float[Tensor, ""]:
        """The mean of the term over layers, keys and values, times ``weight``."""
        if self.term == "variance_floor":
            return self.weight * variance_floor(moved, student, all_reduce_sum)
        terms = []
        for index, (ours, own) in enumerate(zip(moved.layers, student.layers, strict=True)):
            # (B, H, N): padding of either side and uncovered tokens are left out.
            valid = ours.mask & own.mask
            for column, name in enumerate(("keys", "values")):
                got, wanted = getattr(ours, name), getattr(own, name).detach()
                if scale is None:
                    terms.append(_relative_error(got, wanted, valid[:, 0]))
                else:
                    terms.append(_error(got, wanted, valid) / scale[index, column].square())
        return self.weight * torch.stack(terms).mean()


def _relative_error(
    moved: Float[Tensor, "B H N W"], student: Float[Tensor, "B H N W"], valid: Bool[Tensor, "B N"]
) -> Float[Tensor, ""]:
    """Mean squared error over the tokens, relative to the student's variance in the batch."""
    # The heads of a layer hold the same tokens: (B, H, N, W) -> (n, H, W).
    got, wanted = (to_float32(states).transpose(1, 2)[valid] for states in (moved, student))
    if got.shape[0] < 2:
        # A single token has no variance to compare with.
        return got.sum() * 0.0
    return (got - wanted).square().mean() / wanted.var(0, correction=0).mean().clamp_min(EPSILON**2)


def _error(
    moved: Float[Tensor, "B H N W"], student: Float[Tensor, "B H N W"], valid: Bool[Tensor, "B H N"]
) -> Float[Tensor, ""]:
    """Mean squared error of each sample's tokens, averaged over samples; one without tokens counts as 0."""
    # torch.where, since NaN under padding would reach the gradient.
    difference = torch.where(valid[..., None], to_float32(moved) - to_float32(student), 0.0)
    # (B, H, N, W) -> (B,)
    tokens = valid.sum((1, 2)).clamp_min(1) * moved.shape[-1]
    return (difference.square().sum((1, 2, 3)) / tokens).mean()
