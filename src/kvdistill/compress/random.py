"""Random tokens: a control that ignores the contents of the cache."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvdistill.compress.base import ScoreCompressor
from kvdistill.kv import LayerKV

LOW_32_BITS = 0xFFFFFFFF
"""Mask that keeps the product of two 32-bit numbers in 32 bits."""


@dataclass(frozen=True, kw_only=True)
class Random(ScoreCompressor):
    """Keep randomly drawn tokens: a control that ignores keys, values and importance.

    A token's random score depends only on the seed, the index of the head, the number of valid tokens and the
    token's rank among them: not on the other samples of the batch, on padding or on the training step. Two
    samples of the same length therefore keep the same places, and so do the layers of a model.

    Source: ours; the mixing is the finalizer of MurmurHash3 (public domain, Austin Appleby).
    """

    kind: Literal["random"] = "random"
    seed: int = 0
    """Seed of the scores; its low 32 bits count."""

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """A random score for each token.

        Args:
            layer: One layer of the cache, un-rotated, T slots.

        Returns:
            (B, H, T), in [0, 1), the same at every training step.
        """
        mask = layer.mask
        # (1, H, 1), so that heads draw different tokens.
        heads = torch.arange(mask.shape[1], device=mask.device)[None, :, None]
        number = mask.sum(dim=-1, keepdim=True)
        # A hash in place of a generator: the score of a token depends on no other sample of the batch.
        bits = mix(torch.full_like(number, self.seed & LOW_32_BITS))
        for value in (heads, number, mask.cumsum(dim=-1)):
            bits = mix(bits ^ value)
        # The upper 24 of 32 bits: as many as float32 holds exactly.
        return (bits >> 8).to(torch.float32) / 2**24


def mix(bits: Int[Tensor, "*s"]) -> Int[Tensor, "*s"]:
    """Bijective hash of 32-bit numbers in which each output bit depends on each input bit.

    Args:
        bits: Any shape, int64 with values below 2^32.

    Returns:
        The same shape, int64 with values below 2^32.
    """
    bits = bits ^ (bits >> 16)
    bits = (bits * 0x85EBCA6B) & LOW_32_BITS
    bits = bits ^ (bits >> 13)
    bits = (bits * 0xC2B2AE35) & LOW_32_BITS
    return bits ^ (bits >> 16)
