"""Importance to the answer alone: R-KV without its redundancy term."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from kvdistill.compress.base import ScoreCompressor, require_importance
from kvdistill.kv import LayerKV


@dataclass(frozen=True, kw_only=True)
class Attention(ScoreCompressor):
    """Keep the tokens that the answer attended to most: R-KV at λ = 1.

    Source: https://arxiv.org/abs/2510.02312, appendix D.
    """

    kind: Literal["attention"] = "attention"

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """The layer's importance.

        Args:
            layer: One layer of the cache, un-rotated, T slots.

        Returns:
            (B, H, T), the answer's attention to each slot.

        Raises:
            ValueError: if the layer carries no importance.
        """
        return require_importance(layer, "Attention")
