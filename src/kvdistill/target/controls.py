"""Negative controls: targets of the right shape without information about the sample."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from kvdistill.kv import ModelKV, require_unrotated
from kvdistill.target.mean import TargetMean


def partners(cot_id: Int[Tensor, " B"], seed: int) -> Int[Tensor, " B"]:
    """Random derangement of the batch: whose target each sample gets.

    Chains of thought are put in random order, samples of one chain side by side in random order, and each
    sample gets the target that is as many places ahead as the largest chain has samples. No sample gets its
    own target. If no chain fills more than half of the batch, no sample gets a target of its own chain;
    otherwise only as many do as cannot be avoided. The result depends on all samples of the batch.

    Args:
        cot_id: (B,), equal where samples have the same chain of thought and answer.
        seed: Seed of the order.

    Returns:
        (B,), the index of each sample's partner.

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
    # A CPU generator: the same seed gives the same partners on every device.
    generator = torch.Generator().manual_seed(seed)
    # Random order of the samples, then of the chains; the stable sort keeps the former within a chain.
    shuffled = torch.randperm(batch, generator=generator)
    _, group, counts = cot_id.cpu()[shuffled].unique(return_inverse=True, return_counts=True)
    place = torch.randperm(len(counts), generator=generator)[group]
    order = shuffled[place.argsort(stable=True)]
    # One chain alone in the batch: a shift by its size would give every sample its own target.
    ahead = int(counts.max()) % batch or 1
    # argsort inverts the order: from places in line back to samples.
    return order.roll(-ahead)[order.argsort()].to(cot_id.device)


def _take(target: ModelKV, index: Int[Tensor, " X"], dim: Literal[0, 2]) -> ModelKV:
    """Choose samples (dim 0) or slots (dim 2) of every tensor of the cache."""
    require_unrotated(target, "target/controls")
    # Partners are drawn on the device of the ids; the cache may be on another one.
    index = index.to(target.layers[0].keys.device)

    layers = (layer.map_slots(lambda values: values.index_select(dim, index)) for layer in target.layers)
    return target.map(tuple(layers))


@dataclass(frozen=True, kw_only=True)
class NoControl:
    """No control: the target as it is.

    Source: ours.
    """

    kind: Literal["none"] = "none"
    needs_partner: ClassVar[bool] = False
    needs_running_mean: ClassVar[bool] = False

    def apply(
        self, target: ModelKV, cot_id: Int[Tensor, " B"], step_seed: int, mean: TargetMean | None = None
    ) -> ModelKV:
        """Return the target itself.

        Args:
            target: The compressed cache of the batch.
            cot_id: Ignored.
            step_seed: Ignored.
            mean: Ignored.

        Returns:
            ``target``.
        """
        return target


@dataclass(frozen=True, kw_only=True)
class OtherSample:
    """Each sample gets the target of another sample of the batch (see ``partners``).

    Time order, mask and positions are those of the other sample.

    Source: ours.
    """

    kind: Literal["other_sample"] = "other_sample"
    needs_partner: ClassVar[bool] = True
    needs_running_mean: ClassVar[bool] = False

    def apply(
        self, target: ModelKV, cot_id: Int[Tensor, " B"], step_seed: int, mean: TargetMean | None = None
    ) -> ModelKV:
        """Permute the targets over the batch.

        Args:
            target: The compressed cache of the batch, un-rotated, M slots.
            cot_id: (B,), equal where samples have the same chain of thought and answer.
            step_seed: Seed of the partners.
            mean: Ignored.

        Returns:
            The cache with its samples permuted, M slots.

        Raises:
            ValueError: for a batch of one.
        """
        return _take(target, partners(cot_id, step_seed), 0)


@dataclass(frozen=True, kw_only=True)
class Shuffled:
    """Another sample's target with its slots permuted.

    The permutation is the same for every sample, layer and step of a run, and no slot keeps its place. It
    depends on the number of slots, so it is fixed for compressed targets only.

    Source: ours.
    """

    kind: Literal["shuffled"] = "shuffled"
    needs_partner: ClassVar[bool] = True
    needs_running_mean: ClassVar[bool] = False
    seed: int = 0
    """Seed of the permutation of the slots."""

    def apply(
        self, target: ModelKV, cot_id: Int[Tensor, " B"], step_seed: int, mean: TargetMean | None = None
    ) -> ModelKV:
        """Permute the targets over the batch as in ``OtherSample``, then over the slots.

        Args:
            target: The compressed cache of the batch, un-rotated, M slots.
            cot_id: (B,), equal where samples have the same chain of thought and answer.
            step_seed: Seed of the partners.
            mean: Ignored.

        Returns:
            The cache with samples and slots permuted, M slots.

        Raises:
            ValueError: for a batch of one, or a single slot.
        """
        num_slots = target.layers[0].mask.shape[-1]
        if num_slots < 2:
            raise ValueError(
                "controls: 'shuffled' needs at least two slots to change their order. Use 'other_sample' "
                "for a single slot."
            )
        # Every slot is a chain of its own, so the derangement has no other constraint.
        slots = partners(torch.arange(num_slots, device=cot_id.device), self.seed)
        return _take(_take(target, partners(cot_id, step_seed), 0), slots, 2)


@dataclass(frozen=True, kw_only=True)
class MeanTarget:
    """Every sample's target is the running mean of the targets, slot by slot.

    The sample's own mask and positions stay.

    Source: ours.
    """

    kind: Literal["mean_target"] = "mean_target"
    needs_partner: ClassVar[bool] = False
    needs_running_mean: ClassVar[bool] = True

    def apply(
        self, target: ModelKV, cot_id: Int[Tensor, " B"], step_seed: int, mean: TargetMean | None = None
    ) -> ModelKV:
        """Replace every target by the mean.

        Args:
            target: The compressed cache of the batch, un-rotated, M slots.
            cot_id: Ignored.
            step_seed: Ignored.
            mean: The running mean of the targets, this batch included.

        Returns:
            The cache with the mean's keys and values, M slots; slots that no sample so far has filled are
            masked.

        Raises:
            ValueError: without a mean, or with one of other shapes.
        """
        if mean is None:
            raise ValueError(
                "controls: 'mean_target' needs the mean so far. Carry mean = TargetMean.over(target, mean) "
                "from step to step."
            )
        return mean.spread(target)


Control = NoControl | OtherSample | Shuffled | MeanTarget
"""Every control, told apart by ``kind``."""
