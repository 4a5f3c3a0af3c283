"""Running mean of the targets over the data set, slot by slot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.kv import LayerKV, ModelKV, require_unrotated
from kvdistill.ops import to_float32


@dataclass(frozen=True, slots=True)
class SlotMean:
    """Mean of one layer's slots over all samples so far, float32 or float64, outside the autograd graph."""

    keys: Float[Tensor, "H T K"]
    values: Float[Tensor, "H T V"]
    importance: Float[Tensor, "H T"] | None
    count: Float[Tensor, "H T"]
    """Number of samples whose slot was valid."""


@dataclass(frozen=True, slots=True)
class TargetMean:
    """Mean of the targets per layer, head and slot over the samples so far.

    Immutable: the caller keeps it from batch to batch.

    Source: ours.
    """

    layers: tuple[SlotMean, ...]

    @staticmethod
    def over(
        target: ModelKV,
        before: "TargetMean | None" = None,
        total: Callable[[Tensor], Tensor] = lambda values: values,
    ) -> "TargetMean":
        """Update a mean with the samples of a batch. Neither argument is modified.

        Args:
            target: The compressed cache of the batch, un-rotated, M slots.
            before: The mean of all batches before; None at the first.
            total: All-reduce sum over the processes of a distributed run, each of which has other samples.

        Returns:
            The mean over the samples of ``before`` and those of ``target``.

        Raises:
            ValueError: if keys are rotated, or the slots of the two do not correspond.
        """
        # A mean over keys of different rotations would mix angles.
        require_unrotated(target, "target/mean")
        if before is None:
            return TargetMean(tuple(_join(layer, _empty(layer), total) for layer in target.layers))
        before.require_same_slots(target)
        return TargetMean(
            tuple(_join(layer, mean, total) for layer, mean in zip(target.layers, before.layers, strict=True))
        )

    def spread(self, target: ModelKV) -> ModelKV:
        """Put the mean in place of every sample.

        Args:
            target: The compressed cache of the batch, M slots.

        Returns:
            ``target`` with the mean's keys and values, in its own dtype, and the mean's importance. Mask and
            positions stay, but slots that no sample so far has filled are masked.

        Raises:
            ValueError: if the slots of the two do not correspond.
        """
        self.require_same_slots(target)
        return target.map(
            tuple(_spread(layer, mean) for layer, mean in zip(target.layers, self.layers, strict=True))
        )

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, for a checkpoint.

        Returns:
            Tensors by ``INDEX.FIELD``, the index counted over the layers; no entry where importance is None.
        """
        named = (
            (f"{i}.{f.name}", getattr(layer, f.name))
            for i, layer in enumerate(self.layers)
            for f in fields(layer)
        )
        return {name: value for name, value in named if value is not None}

    @staticmethod
    def of(tensors: Mapping[str, Tensor]) -> "TargetMean":
        """The mean from a checkpoint.

        Args:
            tensors: The result of ``tensors``.

        Returns:
            The same mean.
        """
        layers: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            index, _, field = name.partition(".")
            # Means without importance have no tensor of that name.
            layers.setdefault(int(index), {"importance": None})[field] = value  # pyright: ignore
        return TargetMean(tuple(SlotMean(**layers[index]) for index in sorted(layers)))

    def require_same_slots(self, target: ModelKV) -> None:
        """Check that a target has the shapes of the mean.

        Args:
            target: A compressed cache of any batch size.

        Raises:
            ValueError: if layers, heads, slots or widths differ, or only one side has importance.
        """
        shapes = [(x.keys.shape[1:], x.values.shape[1:], x.importance is None) for x in target.layers]
        if shapes != [(x.keys.shape, x.values.shape, x.importance is None) for x in self.layers]:
            raise ValueError(
                f"TargetMean: the target from {target.source} has other layers, heads, slots or widths (or "
                "importance where the others "
                "had none) than the targets seen so far. Compress to a fixed number of slots and carry one "
                "mean a run."
            )


def _empty(layer: LayerKV) -> SlotMean:
    def zeros(values: Float[Tensor, "B H T *w"]) -> Float[Tensor, "H T *w"]:
        # One sample's shape: the mean has no batch axis.
        return torch.zeros_like(to_float32(values[0].detach()))

    importance = None
    if layer.importance is not None:
        importance = zeros(layer.importance)
    count = torch.zeros_like(layer.mask[0], dtype=torch.float32)
    return SlotMean(zeros(layer.keys), zeros(layer.values), importance, count)


def _join(layer: LayerKV, before: SlotMean, total: Callable[[Tensor], Tensor]) -> SlotMean:
    # A mean from a checkpoint is on the CPU.
    count = before.count.to(layer.mask.device) + total(layer.mask.sum(0).float())

    def joined(values: Float[Tensor, "B H T *w"], mean: Float[Tensor, "H T *w"]) -> Float[Tensor, "H T *w"]:
        mean = mean.to(values.device)
        wide = (..., *[None] * (values.ndim - 3))
        # mean + Σ (x - mean) / count: differences to the mean lose fewer digits than a running sum.
        gap = total(torch.where(layer.mask[wide], to_float32(values.detach()) - mean, 0.0).sum(0))
        return mean + gap / count.clamp_min(1.0)[wide]

    keys, values = joined(layer.keys, before.keys), joined(layer.values, before.values)
    # Both sides have importance or neither has (require_same_slots).
    if layer.importance is None or before.importance is None:
        return SlotMean(keys, values, None, count)
    return SlotMean(keys, values, joined(layer.importance, before.importance), count)


def _spread(layer: LayerKV, mean: SlotMean) -> LayerKV:
    importance = None
    if mean.importance is not None:
        importance = mean.importance.expand_as(layer.mask)
    # (H, T, W) -> (B, H, T, W): every sample gets the same mean, as a view.
    return layer.replace(
        keys=mean.keys.to(layer.keys).expand_as(layer.keys),
        values=mean.values.to(layer.values).expand_as(layer.values),
        # A slot without any sample has no mean, only the initial zeros.
        mask=layer.mask & (mean.count > 0),
        importance=importance,
    )
