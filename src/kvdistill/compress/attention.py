"""Only what the answer attended to."""

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

        Raises:
            ValueError: if the layer carries none.
        """
        return require_importance(layer, "Attention")
