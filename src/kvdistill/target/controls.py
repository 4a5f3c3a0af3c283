"""Negative controls: targets that look right and say nothing about the sample. Cache in, cache out."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from kvdistill.kv import ModelKV, require_unrotated
from kvdistill.target.mean import TargetMean


def partners(cot_id: Int[Tensor, " B"], seed: int) -> Int[Tensor, " B"]:
    """Whose target each sample gets: a random derangement of the batch, in which partners of the same
    ``cot_id`` are rarest.

    A batch statistic by nature. Chains of thought are lined up in random order, samples of one chain side by
    side in random order, and each sample takes the target as many places ahead as the largest chain has
    samples. No sample gets its own target. If no chain fills more than half of the batch, no sample gets one
    of its own chain; otherwise only as many as cannot be avoided.

    Raises:
        ValueError: for a batch of one.

    Source: ours.
    """
    batch = len(cot_id)
    if batch < 2:
        raise ValueError(
            "controls: a batch of one has no other sample to take a target from. Raise the batch size per "
            "device to 2 or more (and "
            "drop a last batch of one), or use the control 'mean_target'."
        )
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(batch, generator=generator)
    _, group, counts = cot_id.cpu()[shuffled].unique(return_inverse=True, return_counts=True)
    place = torch.randperm(len(counts), generator=generator)[group]
    order = shuffled[place.argsort(stable=True)]
    ahead = int(counts.max()) % batch or 1
    return order.roll(-ahead)[order.argsort()].to(cot_id.device)


def _take(target: ModelKV, index: Int[Tensor, " X"], dim: Literal[0, 2]) -> ModelKV:
    """Choose samples (dim 0) or slots (dim 2) of every tensor of the cache."""
    require_unrotated(target, "target/controls")
    index = index.to(target.layers[0].keys.device)

    layers = (layer.map_slots(lambda values: values.index_select(dim, index)) for layer in target.layers)
    return target.map(tuple(layers))


@dataclass(frozen=True, kw_only=True)
class NoControl:
    """The target as it is.

    Source: ours.
    """

    kind: Literal["none"] = "none"
    needs_partner: ClassVar[bool] = False
    needs_running_mean: ClassVar[bool] = False

    def apply(
        self, target: ModelKV, cot_id: Int[Tensor, " B"], step_seed: int, mean: TargetMean | None = None
    ) -> ModelKV:
        """The target itself."""
        return target


@dataclass(frozen=True, kw_only=True)
class OtherSample:
    """Each sample gets the target of another one (see ``partners``), in its time order, with its mask and
    positions.

    Source: ours.
    """

    kind: Literal["other_sample"] = "other_sample"
    needs_partner: ClassVar[bool] = True
    needs_running_mean: ClassVar[bool] = False

    def apply(
        self, target: ModelKV, cot_id: Int[Tensor, " B"], step_seed: int, mean: TargetMean | None = None
    ) -> ModelKV:
        """The targets, permuted over the batch.

        Equal ``cot_id`` numbers mark equal chains of thought; ``step_seed`` draws the partners.

        Raises:
            ValueError: for a batch of one.
        """
        return _take(target, partners(cot_id, step_seed), 0)


@dataclass(frozen=True, kw_only=True)
class Shuffled:
    """Another sample's target with its slots in another order, the same for every sample, layer and step of a
    run.

    No slot keeps its place. The order depends on the number of slots, so it is fixed for compressed targets
    only.

    Source: ours.
    """

    kind: Literal["shuffled"] = "shuffled"
    needs_partner: ClassVar[bool] = True
    needs_running_mean: ClassVar[bool] = False
    seed: int = 0
    """Draws the order of the slots."""

    def apply(
        self, target: ModelKV, cot_id: Int[Tensor, " B"], step_seed: int, mean: TargetMean | None = None
    ) -> ModelKV:
        """The targets handed round as in ``OtherSample``, slots in the run's order.

        Raises:
            ValueError: for a batch of one, or a single slot.
        """
        num_slots = target.layers[0].mask.shape[-1]
        if num_slots < 2:
            raise ValueError(
                "controls: 'shuffled' needs at least two slots to change their order. Use 'other_sample' "
                "for a single slot."
            )
        slots = partners(torch.arange(num_slots, device=cot_id.device), self.seed)
        return _take(_take(target, partners(cot_id, step_seed), 0), slots, 2)


@dataclass(frozen=True, kw_only=True)
class MeanTarget:
    """Each slot holds the mean of that slot over the data set seen so far; the sample's own mask and
    positions stay.

    Source: ours.
    """

    kind: Literal["mean_target"] = "mean_target"
    needs_partner: ClassVar[bool] = False
    needs_running_mean: ClassVar[bool] = True

    def apply(
        self, target: ModelKV, cot_id: Int[Tensor, " B"], step_seed: int, mean: TargetMean | None = None
    ) -> ModelKV:
        """The mean in place of every target; slots that the mean has never seen filled are masked.

        Raises:
            ValueError: without a mean, or with one of other slots.
        """
        if mean is None:
            raise ValueError(
                "controls: 'mean_target' needs the mean so far. Carry mean = TargetMean.over(target, mean) "
                "from step to step."
            )
        return mean.spread(target)


Control = NoControl | OtherSample | Shuffled | MeanTarget
