"""Left crop: the first tokens of the chain of thought."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.compress.base import ScoreCompressor
from kvdistill.kv import LayerKV


@dataclass(frozen=True, kw_only=True)
class LeftCrop(ScoreCompressor):
    """Keep the first valid tokens: a control for ``right_crop``.

    Source: ours.
    """

    kind: Literal["left_crop"] = "left_crop"

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """The negative slot index: earlier is better.

        Args:
            layer: One layer of the cache, un-rotated, T slots.

        Returns:
            (B, H, T), from 0 down to 1 - T.
        """
        return -torch.arange(layer.mask.shape[-1], dtype=torch.float32, device=layer.mask.device).expand(
            layer.mask.shape
        )
