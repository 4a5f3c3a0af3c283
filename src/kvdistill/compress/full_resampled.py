"""Every token, blended into as many slots as the student has."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvdistill.compress.base import Compressor, pad_slots, require_ready, valid_first
from kvdistill.kv import LayerKV, ModelKV


@dataclass(frozen=True, kw_only=True)
class FullResampled(Compressor):
    """Read the sequence of valid tokens at M places at even distances, each between two tokens: a control for
    ``full``.

    Slot ``j`` lies at ``u_j = j (n - 1) / max(M - 1, 1)`` of a head's ``n`` valid tokens and is the linear
    interpolation of the two around it. The same formula holds for ``n <= M``, where tokens repeat and blend;
    a single slot (M = 1) reads the first token. A slot is there (mask True) wherever the sample has a token
    at all. Positions are rounded; importance is interpolated and scaled to sum to 1; step ends are dropped,
    since a blend of two tokens ends no step.

    Source: ours.
    """

    kind: Literal["full_resampled"] = "full_resampled"

    def compress(self, kv: ModelKV, slots: int) -> ModelKV:
        """Resample each layer and head to ``slots`` slots.

        Raises:
            ValueError: if ``slots`` is below 1 or keys are rotated.
        """
        require_ready(kv, slots, "FullResampled")
        return kv.map(tuple(resample(pad_slots(layer, 1), slots) for layer in kv.layers))


def resample(layer: LayerKV, slots: int) -> LayerKV:
    """The layer at ``slots`` places at even distances over its valid tokens."""
    number = layer.mask.sum(dim=-1, keepdim=True)
    gaps = max(slots - 1, 1)
    place = torch.arange(slots, device=number.device) * (number - 1).clamp_min(0)
    share = (place % gaps).to(torch.float32) / gaps
    order = valid_first(layer.mask)
    before = order.gather(-1, place // gaps)
    after = order.gather(-1, torch.minimum(place // gaps + 1, (number - 1).clamp_min(0)))
    mask = (number > 0).expand(before.shape)
    importance = None
    if layer.importance is not None:
        blend = between(layer.importance[..., None], before, after, share)[..., 0].masked_fill(~mask, 0.0)
        total = blend.sum(dim=-1, keepdim=True)
        importance = blend / torch.where(total > 0, total, 1.0)
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
    """Linear interpolation from the slot ``before`` (share 0) to the slot ``after`` (share 1), in float32 or
    finer.
    """
    precise = torch.promote_types(values.dtype, torch.float32)

    def pick(slot: Tensor) -> Tensor:
        return values.gather(2, slot[..., None].expand(*slot.shape, values.shape[-1])).to(precise)

    return torch.lerp(pick(before), pick(after), share[..., None].to(precise)).to(values.dtype)
