"""Uniform: tokens evenly spaced over the chain of thought."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool
from torch import Tensor

from kvdistill.compress.base import Compressor, gather_kept, pad_slots, require_ready
from kvdistill.kv import LayerKV, ModelKV
from kvdistill.layer_batch import map_layers


@dataclass(frozen=True, kw_only=True)
class Uniform(Compressor):
    """Keep evenly spaced tokens: a control that ignores keys, values and importance.

    Of ``n`` valid tokens and ``M`` slots, slot ``j`` (from 0) gets token ``ceil((j + 1) n / M) - 1``: the
    last token of the j-th of ``M`` segments of equal length. The last token is always kept, and no token is
    kept twice; with ``n <= M`` all are kept.

    Source: ours.
    """

    kind: Literal["uniform"] = "uniform"

    def compress(self, kv: ModelKV, slots: int) -> ModelKV:
        """Keep ``slots`` evenly spaced valid tokens of each layer.

        Args:
            kv: The cache of a batch over the chain of thought, un-rotated, N tokens.
            slots: M, the number of the student's latent slots.

        Returns:
            The cache in M slots, in time order; spare slots at the end have mask False.

        Raises:
            ValueError: if ``slots`` is below 1 or keys are rotated.
        """
        require_ready(kv, slots, "Uniform")

        def keep(layer: LayerKV) -> LayerKV:
            layer = pad_slots(layer, slots)
            return gather_kept(layer, spread(layer.mask, slots), slots)

        return kv.map(map_layers(kv.layers, keep))


def spread(mask: Bool[Tensor, "B H T"], slots: int) -> Bool[Tensor, "B H T"]:
    """Mask of the tokens to keep: those where ``floor(i M / n)`` increases from token ``i`` to the next.

    Args:
        mask: (B, H, T), True at valid tokens.
        slots: M, the number of tokens to keep.

    Returns:
        (B, H, T), True at min(M, n) of the n valid tokens of each head.
    """
    # Integer arithmetic: no rounding error moves a token, however long the text.
    number = mask.sum(dim=-1, keepdim=True).clamp_min(1)
    # Rank of each valid token, counted from 1.
    after = mask.cumsum(dim=-1)
    return mask & (after * slots // number > (after - 1) * slots // number)
