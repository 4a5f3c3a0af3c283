"""Least redundant keys: R-KV's redundancy term alone."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from kvdistill.compress.base import ScoreCompressor
from kvdistill.compress.rkv import distinctness
from kvdistill.kv import LayerKV


@dataclass(frozen=True, kw_only=True)
class Cosine(ScoreCompressor):
    """Keep the tokens whose keys are least like the others: R-KV at λ = 0. Needs no importance.

    Source: https://arxiv.org/abs/2510.02312, appendix D.
    """

    kind: Literal["cosine"] = "cosine"

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """The distinctness R of each key.

        Args:
            layer: One layer of the cache, un-rotated, T slots.

        Returns:
            (B, H, T), a softmax over the valid slots; 0 at padding.
        """
        return distinctness(layer)
