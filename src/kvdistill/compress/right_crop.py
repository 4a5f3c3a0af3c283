"""Right crop: the last tokens of the chain of thought."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.compress.base import ScoreCompressor
from kvdistill.kv import LayerKV


@dataclass(frozen=True, kw_only=True)
class RightCrop(ScoreCompressor):
    """Keep the last valid tokens.

    Source: https://arxiv.org/abs/2510.02312, the crop that R-KV is compared with.
    """

    kind: Literal["right_crop"] = "right_crop"

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """The slot index: later is better.

        Args:
            layer: One layer of the cache, un-rotated, T slots.

        Returns:
            (B, H, T), from 0 to T - 1.
        """
        return torch.arange(layer.mask.shape[-1], dtype=torch.float32, device=layer.mask.device).expand(
            layer.mask.shape
        )
