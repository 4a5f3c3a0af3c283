"""What every compressor shares: choosing slots by score, and taking the chosen ones out of a cache in time
order.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.kv import LayerKV, ModelKV, require_unrotated


class Compressor(Protocol):
    """What shortens a cache to the number of the student's latent slots."""

    keeps_tokens: ClassVar[bool] = False
    """Whether the result has the tokens of the text, however many, in place of ``slots`` slots."""

    def diagnostics(self, kv: ModelKV) -> dict[str, Float[Tensor, ""]]:
        """Numbers for the log about the cache that is compressed, by name."""
        return {}

    def compress(self, kv: ModelKV, slots: int) -> ModelKV:
        """The same cache in ``slots`` slots; the caller's tensors stay as they are."""
        ...


@dataclass(frozen=True, kw_only=True)
class ScoreCompressor(Compressor):
    """Give every slot a score and keep the best ones, in time order.

    A new method is a subclass with a ``score``. Padding never gets in, whatever its score. Equal scores: the
    earlier slot wins. Choosing is not differentiable; gradients flow through the keys and values that are
    kept.
    """

    selection: Literal["per_head", "shared"] = "per_head"
    """``shared``: scores are averaged over the heads of a layer, so that all keep the same tokens."""

    def __post_init__(self) -> None:
        if self.selection not in ("per_head", "shared"):
            raise ValueError(
                f"{type(self).__name__}: selection is {self.selection!r}. Set it to 'per_head' or 'shared'."
            )

    @abstractmethod
    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """How much each slot is worth keeping; ``-inf`` where it must never be kept. Values at padding are
        not read.
        """

    def compress(self, kv: ModelKV, slots: int) -> ModelKV:
        """Keep the best ``slots`` slots of each layer and head.

        A sample with fewer that may be kept has its spare slots at the end: mask False, everything else zero.

        Raises:
            ValueError: if ``slots`` is below 1, if keys are rotated, or if a score is not a number.
        """
        require_ready(kv, slots, type(self).__name__)
        return kv.map(tuple(self._compress_layer(layer, slots, kv.source) for layer in kv.layers))

    def _compress_layer(self, layer: LayerKV, slots: int, source: str) -> LayerKV:
        layer = pad_slots(layer, slots)
        with torch.no_grad():
            scores = self.score(layer).masked_fill(~layer.mask, -torch.inf)
            if scores.isnan().any():
                raise ValueError(
                    f"{type(self).__name__}: a score is not a number, so a key or an importance in the "
                    f"cache of {source} is not finite. "
                    "Look for overflow in that model's forward pass (float16 is the usual cause; bfloat16 "
                    "or float32 helps)."
                )
            if self.selection == "shared":
                barred = scores.isneginf().any(dim=1, keepdim=True)
                scores = scores.mean(dim=1, keepdim=True).masked_fill(barred, -torch.inf).expand_as(scores)
            keep = keep_best(scores, slots)
        return gather_kept(layer, keep, slots)


def require_ready(kv: ModelKV, slots: int, station: str) -> None:
    """Refuse rotated keys, and a number of slots that no student has.

    Raises:
        ValueError: naming ``station``.
    """
    if slots < 1:
        raise ValueError(
            f"{station}: the cache cannot be compressed to slots={slots}. Give the student at least one "
            "latent slot."
        )
    require_unrotated(kv, station)


def require_importance(layer: LayerKV, station: str) -> Float[Tensor, "B H T"]:
    """The layer's importance.

    Raises:
        ValueError: naming ``station``, if the cache was captured without.
    """
    if layer.importance is None:
        raise ValueError(
            f"{station} needs to know how much the answer attended to each token, and this cache carries no "
            "importance. "
            "Capture it with importance, or choose a compressor that needs none: cosine, right_crop or "
            "uniform."
        )
    return layer.importance


def pad_slots(layer: LayerKV, slots: int) -> LayerKV:
    """The layer with empty slots at the end, so that it has at least ``slots``."""
    missing = slots - layer.mask.shape[-1]
    if missing <= 0:
        return layer

    def pad(values: Tensor) -> Tensor:
        after_slots = (0, 0) * (values.ndim - 3)  # the width of keys and values
        return F.pad(values, (*after_slots, 0, missing))

    return layer.map_slots(pad)


def valid_first(mask: Bool[Tensor, "B H T"]) -> Int[Tensor, "B H T"]:
    """Slot of the first valid token, of the second, ... in time order, then the slots that hold none."""
    return torch.argsort(mask.logical_not().to(torch.uint8), dim=-1, stable=True)


def keep_best(scores: Float[Tensor, "B H T"], slots: int) -> Bool[Tensor, "B H T"]:
    """True at the ``slots`` highest scores of each head; among equals at the edge the earlier slots, never a
    ``-inf``.

    Linear in ``T``, where a stable sort is not.
    """
    worst = scores.topk(min(slots, scores.shape[-1]), dim=-1).values[..., -1:]
    above = scores > worst
    edge = (scores == worst) & ~worst.isneginf()
    room = slots - above.sum(dim=-1, keepdim=True)
    return above | (edge & (edge.cumsum(dim=-1) <= room))


def gather_kept(layer: LayerKV, keep: Bool[Tensor, "B H T"], slots: int) -> LayerKV:
    """A layer of exactly ``slots`` slots: the kept ones in time order, then empty ones. ``T`` must be
    ``slots`` or more.
    """
    num_slots = keep.shape[-1]
    time = torch.arange(num_slots, device=keep.device)
    index = torch.where(keep, time, num_slots).topk(slots, dim=-1, largest=False).values
    mask = index < num_slots
    index = index.clamp_max(num_slots - 1)

    def take(values: Tensor) -> Tensor:
        wide = (..., *[None] * (values.ndim - 3))  # one index for the complete width of keys and values
        taken = values.gather(2, index[wide].expand(*index.shape, *values.shape[3:]))
        return torch.where(mask[wide], taken, torch.zeros((), dtype=values.dtype, device=values.device))

    return layer.map_slots(take).replace(mask=mask)
