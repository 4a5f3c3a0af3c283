"""Tokens at even distances."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool
from torch import Tensor

from kvdistill.compress.base import Compressor, gather_kept, pad_slots, require_ready
from kvdistill.kv import ModelKV


@dataclass(frozen=True, kw_only=True)
class Uniform(Compressor):
    """Keep tokens evenly spread over the text: a control that looks at nothing.

    Of ``n`` valid tokens and ``M`` slots, slot ``j`` (from 0) gets token ``ceil((j + 1) n / M) - 1``: the
    last token of the j-th of ``M`` stretches of equal length. So the last token is always kept, and no token
    twice; with ``n <= M`` all are kept.

    Source: ours.
    """

    kind: Literal["uniform"] = "uniform"

    def compress(self, kv: ModelKV, slots: int) -> ModelKV:
        """Keep ``slots`` valid tokens of each layer, spread evenly.

        Raises:
            ValueError: if ``slots`` is below 1 or keys are rotated.
        """
        require_ready(kv, slots, "Uniform")
        layers = (pad_slots(layer, slots) for layer in kv.layers)
        return kv.map(tuple(gather_kept(layer, spread(layer.mask, slots), slots) for layer in layers))


def spread(mask: Bool[Tensor, "B H T"], slots: int) -> Bool[Tensor, "B H T"]:
    """True at the tokens to keep: where ``floor(i M / n)`` steps up between token ``i`` and the next."""
    number = mask.sum(dim=-1, keepdim=True).clamp_min(1)
    after = mask.cumsum(dim=-1)
    return mask & (after * slots // number > (after - 1) * slots // number)
