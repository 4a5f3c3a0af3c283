"""Linear interpolation of the token sequence at M evenly spaced places."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvdistill.compress.base import Compressor, pad_slots, require_ready, valid_first
from kvdistill.kv import LayerKV, ModelKV
from kvdistill.layer_batch import map_layers


@dataclass(frozen=True, kw_only=True)
class FullResampled(Compressor):
    """Interpolate the valid tokens at M evenly spaced places: a control for ``full``.

    Slot ``j`` is read at ``u_j = j (n - 1) / max(M - 1, 1)`` of a head's ``n`` valid tokens, by linear
    interpolation of the two around it. The same formula holds for ``n <= M``, where tokens repeat and blend;
    a single slot (M = 1) reads the first token. All M slots are valid (mask True) if the sample has any
    token. Positions are rounded; importance is interpolated and scaled to sum to 1; step ends are dropped,
    since a blend of two tokens ends no step.

    Source: ours.
    """

    kind: Literal["full_resampled"] = "full_resampled"
    blends_tokens: ClassVar[bool] = True

    def compress(self, kv: ModelKV, slots: int) -> ModelKV:
        """Resample each layer and head to ``slots`` slots.

        Args:
            kv: The cache of a batch over the chain of thought, un-rotated, N tokens.
            slots: M, the number of the student's latent slots.

        Returns:
            The cache in M slots.

        Raises:
            ValueError: if ``slots`` is below 1 or keys are rotated.
        """
        require_ready(kv, slots, "FullResampled")
        return kv.map(map_layers(kv.layers, lambda layer: resample(pad_slots(layer, 1), slots)))


def resample(layer: LayerKV, slots: int) -> LayerKV:
    """Interpolate one layer at evenly spaced places over its valid tokens.

    Args:
        layer: One layer of the cache, un-rotated, T >= 1 slots.
        slots: M, the number of places.

    Returns:
        The layer in M slots; mask False and all other tensors zero where a head has no valid token.
    """
    number = layer.mask.sum(dim=-1, keepdim=True)
    gaps = max(slots - 1, 1)
    # u_j in units of 1 / gaps, as an integer: its integer part and its remainder are exact.
    place = torch.arange(slots, device=number.device) * (number - 1).clamp_min(0)
    share = (place % gaps).to(torch.float32) / gaps
    order = valid_first(layer.mask)
    # Slots of the two tokens around each place, (B, H, M); the last token has no successor.
    before = order.gather(-1, place // gaps)
    after = order.gather(-1, torch.minimum(place // gaps + 1, (number - 1).clamp_min(0)))
    mask = (number > 0).expand(before.shape)
    importance = None
    if layer.importance is not None:
        blend = between(layer.importance[..., None], before, after, share)[..., 0].masked_fill(~mask, 0.0)
        # A distribution over the slots again.
        total = blend.sum(dim=-1, keepdim=True)
        importance = blend / torch.where(total > 0, total, 1.0)
    # float32 holds positions exactly up to 2^24.
    positions = between(layer.positions[..., None].to(torch.float32), before, after, share)[..., 0].round()
    return layer.replace(
        keys=between(layer.keys, before, after, share).masked_fill(~mask[..., None], 0.0),
        values=between(layer.values, before, after, share).masked_fill(~mask[..., None], 0.0),
        mask=mask,
        positions=positions.to(layer.positions.dtype).masked_fill(~mask, 0),
        importance=importance,
        step_end=None,
    )


def between(
    values: Float[Tensor, "B H T W"],
    before: Int[Tensor, "B H M"],
    after: Int[Tensor, "B H M"],
    share: Float[Tensor, "B H M"],
) -> Float[Tensor, "B H M W"]:
    """Linear interpolation between pairs of slots, computed in float32 or float64.

    Args:
        values: (B, H, T, W), the numbers to interpolate.
        before: (B, H, M), slot that is read at share 0.
        after: (B, H, M), slot that is read at share 1.
        share: (B, H, M), from 0 to 1.

    Returns:
        (B, H, M, W), in the dtype of ``values``.
    """
    precise = torch.promote_types(values.dtype, torch.float32)

    def pick(slot: Tensor) -> Tensor:
        return values.gather(2, slot[..., None].expand(*slot.shape, values.shape[-1])).to(precise)

    return torch.lerp(pick(before), pick(after), share[..., None].to(precise)).to(values.dtype)
