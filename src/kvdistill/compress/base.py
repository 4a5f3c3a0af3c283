"""Base of the compressors: choose slots by score and gather them in time order."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.kv import LayerKV, ModelKV, require_unrotated
from kvdistill.layer_batch import map_layers
from kvdistill.ops import host_reads


@runtime_checkable
class Compressor(Protocol):
    """A method that shortens a KV cache to the number of the student's latent slots."""

    keeps_tokens: ClassVar[bool] = False
    """True where the result keeps all tokens of the text instead of ``slots`` slots."""
    blends_tokens: ClassVar[bool] = False
    """True where a slot is a mixture of several tokens, so that its position is not that of a kept token."""

    @property
    def same_in_all_heads(self) -> bool:
        """Whether all heads of a layer keep the same tokens."""
        return True

    def diagnostics(self, kv: ModelKV) -> dict[str, Float[Tensor, ""]]:
        """Metrics of a cache before compression, for the log.

        Args:
            kv: The cache of a batch over the chain of thought, un-rotated.

        Returns:
            Scalars by name; empty where the method has none.
        """
        return {}

    def compress(self, kv: ModelKV, slots: int) -> ModelKV:
        """Compress every layer of a cache. The input's tensors are not modified.

        Args:
            kv: The cache of a batch over the chain of thought, un-rotated, N tokens.
            slots: M, the number of the student's latent slots.

        Returns:
            The cache in M slots, or in N tokens where ``keeps_tokens`` is True.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ScoreCompressor(Compressor):
    """Score every slot and keep the best ones, in time order.

    A new method is a subclass with a ``score``. Padding is never kept, whatever its score. Among equal scores
    the earlier slot is kept. The selection is not differentiable; gradients flow through the keys and values
    that are kept.
    """

    selection: Literal["per_head", "shared"] = "per_head"
    """``shared``: scores are averaged over the heads of a layer, so that all keep the same tokens."""

    def __post_init__(self) -> None:
        if self.selection not in ("per_head", "shared"):
            raise ValueError(
                f"{type(self).__name__}: selection is {self.selection!r}. Set it to 'per_head' or 'shared'."
            )

    @property
    def same_in_all_heads(self) -> bool:
        """Whether all heads of a layer keep the same tokens: with ``selection`` shared."""
        return self.selection == "shared"

    @abstractmethod
    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """How much each slot is worth keeping.

        Args:
            layer: One layer of the cache, un-rotated, padded to at least M slots.

        Returns:
            (B, H, T), higher is better, ``-inf`` where the slot must never be kept. Scores at padding are
            ignored.
        """

    def compress(self, kv: ModelKV, slots: int) -> ModelKV:
        """Keep the best ``slots`` slots of each layer and head.

        Args:
            kv: The cache of a batch over the chain of thought, un-rotated, N tokens.
            slots: M, the number of the student's latent slots.

        Returns:
            The cache in M slots, in time order. A sample with fewer candidates has its spare slots at the
            end: mask False, all other tensors zero.

        Raises:
            ValueError: if ``slots`` is below 1, if keys are rotated, or if a score is not a number.
        """
        require_ready(kv, slots, type(self).__name__)
        return kv.map(map_layers(kv.layers, lambda layer: self._compress_layer(layer, slots, kv.source)))

    def _compress_layer(self, layer: LayerKV, slots: int, source: str) -> LayerKV:
        layer = pad_slots(layer, slots)
        # Only the selection is outside the graph: the gather below stays differentiable.
        with torch.no_grad():
            scores = self.score(layer).masked_fill(~layer.mask, -torch.inf)
            if host_reads(scores) and scores.isnan().any():
                raise ValueError(
                    f"{type(self).__name__}: a score is not a number, so a key or an importance in the "
                    f"cache of {source} is not finite. "
                    "Look for overflow in that model's forward pass (float16 is the usual cause; bfloat16 "
                    "or float32 helps)."
                )
            if self.selection == "shared":
                # A slot that one head must not keep is kept by none of them.
                barred = scores.isneginf().any(dim=1, keepdim=True)
                scores = scores.mean(dim=1, keepdim=True).masked_fill(barred, -torch.inf).expand_as(scores)
            # (B, H, T), True at M slots or fewer in each head.
            keep = keep_best(scores, slots)
        return gather_kept(layer, keep, slots)


def require_ready(kv: ModelKV, slots: int, station: str) -> None:
    """Check that a cache can be compressed: un-rotated keys and at least one slot.

    Args:
        kv: The cache to compress.
        slots: M, the number of the student's latent slots.
        station: The caller's name, for the error message.

    Raises:
        ValueError: naming ``station``, if ``slots`` is below 1 or keys are rotated.
    """
    if slots < 1:
        raise ValueError(
            f"{station}: the cache cannot be compressed to slots={slots}. Give the student at least one "
            "latent slot."
        )
    require_unrotated(kv, station)


def require_importance(layer: LayerKV, station: str) -> Float[Tensor, "B H T"]:
    """The layer's importance.

    Args:
        layer: One layer of the cache, T slots.
        station: The caller's name, for the error message.

    Returns:
        (B, H, T), the answer's attention to each slot.

    Raises:
        ValueError: naming ``station``, if the cache was captured without importance.
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
    """Pad a layer at the end to at least ``slots`` slots.

    Args:
        layer: One layer of the cache, T slots.
        slots: M, the number of slots that is needed.

    Returns:
        The layer with max(T, M) slots. The new ones have mask False and all other tensors zero.
    """
    missing = slots - layer.mask.shape[-1]
    if missing <= 0:
        return layer

    def pad(values: Tensor) -> Tensor:
        # F.pad counts axes from the last one: keys and values have a width after the slot axis.
        after_slots = (0, 0) * (values.ndim - 3)
        return F.pad(values, (*after_slots, 0, missing))

    return layer.map_slots(pad)


def valid_first(mask: Bool[Tensor, "B H T"]) -> Int[Tensor, "B H T"]:
    """Order that moves valid slots to the front, in time order.

    Args:
        mask: (B, H, T), True at valid slots.

    Returns:
        (B, H, T), the slot index of the first valid token, of the second, ..., then of the padding.
    """
    # Valid slots are 0 and padding is 1; the sort is stable, so both groups stay in time order.
    return torch.argsort(mask.logical_not().to(torch.uint8), dim=-1, stable=True)


def keep_best(scores: Float[Tensor, "B H T"], slots: int) -> Bool[Tensor, "B H T"]:
    """Mask of the ``slots`` highest scores of each head.

    Ties at the last place go to the earlier slots. Linear in ``T``, which a stable sort is not.

    Args:
        scores: (B, H, T), ``-inf`` at slots that must not be kept.
        slots: M, the number of slots to keep.

    Returns:
        (B, H, T), True at M slots or fewer: a score of ``-inf`` is never kept.
    """
    # Lowest score that still gets a slot, (B, H, 1).
    worst = scores.topk(min(slots, scores.shape[-1]), dim=-1).values[..., -1:]
    above = scores > worst
    edge = (scores == worst) & ~worst.isneginf()
    # Slots left for the ties after all higher scores are in.
    room = slots - above.sum(dim=-1, keepdim=True)
    return above | (edge & (edge.cumsum(dim=-1) <= room))


def gather_kept(layer: LayerKV, keep: Bool[Tensor, "B H T"], slots: int) -> LayerKV:
    """Gather the kept slots of a layer in time order, then padding.

    Args:
        layer: One layer of the cache, T slots with T >= M.
        keep: (B, H, T), True at the slots to keep, at most M in each head.
        slots: M, the number of slots of the result.

    Returns:
        The layer in M slots: mask False and all other tensors zero after the kept ones.
    """
    num_slots = keep.shape[-1]
    time = torch.arange(num_slots, device=keep.device)
    # The M smallest indices, sorted; a slot that is not kept counts as T, so that it comes last.
    index = torch.where(keep, time, num_slots).topk(slots, dim=-1, largest=False).values
    mask = index < num_slots
    index = index.clamp_max(num_slots - 1)

    def take(values: Tensor) -> Tensor:
        # Keys and values have a width after the slot axis: one index serves all of it.
        wide = (..., *[None] * (values.ndim - 3))
        taken = values.gather(2, index[wide].expand(*index.shape, *values.shape[3:]))
        return torch.where(mask[wide], taken, torch.zeros((), dtype=values.dtype, device=values.device))

    return layer.map_slots(take).replace(mask=mask)
