"""Time alignment: a teacher's cache over its own tokens becomes one over the student's tokens or slots.

Texts that are the same are aligned by their characters (``align_time``). Texts that differ have no characters
in common: their steps are matched with the slots by their place in the text (``SlotMatch``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.kv import LayerKV, ModelKV, require_unrotated
from kvdistill.ops import to_float32
from kvdistill.text import TokenAlignment


def align_time(kv: ModelKV, alignment: TokenAlignment) -> ModelKV:
    """Move a cache from the teacher's tokens to the student's tokens of the same text.

    Keys and values are weighted by ``average``, importance by ``carry``. A student token that no teacher
    token covers keeps its slot, with zeros.

    Args:
        kv: The teacher's cache over its S tokens of the chain of thought, un-rotated; ``T`` is S.
        alignment: Of the same batch.

    Returns:
        Keys (B, H, N, K), values (B, H, N, V) and importance (B, H, N) in the dtypes of ``kv``; mask and step
        ends are the student's, positions the index of the student token in its chain of thought.

    Raises:
        ValueError: if keys are rotated.

    Source: ours.
    """
    require_unrotated(kv, "time alignment")
    return kv.map(tuple(_align_layer(layer, alignment) for layer in kv.layers))


def _align_layer(layer: LayerKV, alignment: TokenAlignment) -> LayerKV:
    heads = layer.keys.shape[1]
    batch, tokens = alignment.mask.shape
    wide = (batch, heads, tokens)
    # Every head has the student's tokens; the first valid one has position 0 on either side of padding.
    positions = (alignment.mask.cumsum(-1) - 1).clamp_min(0)
    importance = layer.importance
    if importance is not None:
        importance = weighted_gather(importance[..., None], alignment.index, alignment.carry)[..., 0]
    return layer.replace(
        keys=weighted_gather(layer.keys, alignment.index, alignment.average),
        values=weighted_gather(layer.values, alignment.index, alignment.average),
        mask=alignment.mask[:, None].expand(wide),
        positions=positions[:, None].expand(wide),
        importance=importance,
        step_end=alignment.step_end[:, None].expand(wide),
    )


def weighted_gather(
    states: Float[Tensor, "B H T W"], index: Int[Tensor, "B N k"], weights: Float[Tensor, "B N k"]
) -> Float[Tensor, "B H N W"]:
    """Sum of k weighted slots for each new slot, accumulated in at least float32.

    Args:
        states: One vector per slot.
        index: Slots to add, each below T.
        weights: Their weights; slots with weight 0 are not read, so that padding may hold anything.

    Returns:
        ``sum_k weights * states[index]`` in the dtype of ``states``.
    """
    batch, heads, slots, width = states.shape
    if slots == 0:
        # A teacher without tokens: one slot that has weight 0 everywhere.
        states = F.pad(states, (0, 0, 0, 1))
    wide = (batch, heads, index.shape[1], width)
    total = to_float32(states.new_zeros(wide))
    # One gather per overlap: deterministic, and never more than one slot per token in memory.
    for number in range(index.shape[-1]):
        place = index[:, None, :, number, None].expand(wide)  # (B, H, N, W)
        weight = weights[:, None, :, number, None].to(total.dtype)  # (B, 1, N, 1)
        found = states.gather(2, place).to(total.dtype)
        total = total + torch.where(weight > 0, weight * found, 0.0)
    return total.to(states.dtype)


@dataclass(frozen=True, kw_only=True)
class NearestSlot:
    """Slot j of M reads the step nearest to place ``j (S - 1) / (M - 1)`` of a text's own S steps.

    A half is rounded up. With as many steps as slots each slot reads its own; with fewer, slots share a step.

    Source: ours.
    """

    kind: Literal["nearest"] = "nearest"

    def match(self, kv: ModelKV, slots: int) -> ModelKV:
        """Read a cache of some steps at M slots.

        Args:
            kv: The compressed cache of a text; its S valid slots, in time order, are the steps, ``T`` of any
                size.
            slots: M.

        Returns:
            M slots with everything that the steps carry. Those of a text with any step are all valid; without
            one, none is, and all other tensors are 0.
        """
        gaps = max(slots - 1, 1)

        def read(layer: LayerKV) -> LayerKV:
            order, place, mask = _places(layer.mask, slots)
            # Integers, so that a half is exact.
            chosen = order.gather(-1, (2 * place + gaps) // (2 * gaps))
            return layer.map_slots(lambda tensor: _zeroed(_at(tensor, chosen), mask)).replace(mask=mask)

        return _each_layer(kv, read)


@dataclass(frozen=True, kw_only=True)
class SoftSlot:
    """Slot j of M interpolates between the steps around place ``j (S - 1) / (M - 1)`` of a text's S steps.

    With as many steps as slots each slot reads its own.

    Source: ours.
    """

    kind: Literal["soft"] = "soft"

    def match(self, kv: ModelKV, slots: int) -> ModelKV:
        """Interpolate a cache of some steps at M slots.

        Args:
            kv: As in ``NearestSlot.match``, un-rotated.
            slots: M.

        Returns:
            M slots: keys, values and importance interpolated in float32 or float64 and returned in their
            dtypes, positions rounded, no step ends. Masked as in ``NearestSlot.match``.

        Raises:
            ValueError: if keys are rotated: a place between two steps has no rotation.
        """
        require_unrotated(kv, "soft slot matching")
        gaps = max(slots - 1, 1)

        def read(layer: LayerKV) -> LayerKV:
            order, place, mask = _places(layer.mask, slots)
            last = (layer.mask.sum(-1, keepdim=True) - 1).clamp_min(0)
            before = order.gather(-1, place // gaps)
            after = order.gather(-1, torch.minimum(place // gaps + 1, last))
            share = (place % gaps).float() / gaps

            def between(tensor: Tensor) -> Tensor:
                precise = torch.promote_types(tensor.dtype, torch.float32)
                wide = share.to(precise)[(..., *[None] * (tensor.ndim - 3))]
                mixed = torch.lerp(_at(tensor, before).to(precise), _at(tensor, after).to(precise), wide)
                if not tensor.is_floating_point():
                    mixed = mixed.round()
                return _zeroed(mixed.to(tensor.dtype), mask)

            # The mask is set at once, and a blend of two steps ends none.
            return layer.replace(step_end=None).map_slots(between).replace(mask=mask)

        return _each_layer(kv, read)


SlotMatch = NearestSlot | SoftSlot
"""Every way of matching the steps of a text with slots, told apart by ``kind``."""


def _each_layer(kv: ModelKV, read: Callable[[LayerKV], LayerKV]) -> ModelKV:
    found = []
    for layer in kv.layers:
        if layer.mask.shape[-1] == 0:
            # A batch without a step: one slot that is masked.
            layer = layer.map_slots(_with_one_slot)
        found.append(read(layer))
    return kv.map(tuple(found))


def _with_one_slot(tensor: Tensor) -> Tensor:
    return tensor.new_zeros((*tensor.shape[:2], 1, *tensor.shape[3:]))


def _places(
    mask: Bool[Tensor, "B H T"], slots: int
) -> tuple[Int[Tensor, "B H T"], Int[Tensor, "B H M"], Bool[Tensor, "B H M"]]:
    """The steps in front, in time order; each slot's place among them times M - 1; and the slots' mask."""
    # Stable, so that valid slots and padding stay in time order.
    order = torch.argsort(mask.logical_not().to(torch.uint8), dim=-1, stable=True)
    number = mask.sum(-1, keepdim=True)
    place = torch.arange(slots, device=mask.device) * (number - 1).clamp_min(0)
    return order, place, (number > 0).expand(place.shape)


def _at(tensor: Tensor, index: Int[Tensor, "B H M"]) -> Tensor:
    """Slots by index; keys and values have a width after the slot axis."""
    wide = index[(..., *[None] * (tensor.ndim - 3))]
    return tensor.gather(2, wide.expand(*index.shape, *tensor.shape[3:]))


def _zeroed(tensor: Tensor, mask: Bool[Tensor, "B H M"]) -> Tensor:
    wide = mask[(..., *[None] * (tensor.ndim - 3))]
    return torch.where(wide, tensor, torch.zeros((), dtype=tensor.dtype, device=tensor.device))
