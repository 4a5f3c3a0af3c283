"""Tokens drawn by lot."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvdistill.compress.base import ScoreCompressor
from kvdistill.kv import LayerKV

LOW_32_BITS = 0xFFFFFFFF


@dataclass(frozen=True, kw_only=True)
class Random(ScoreCompressor):
    """Keep tokens drawn by lot: a control that looks at nothing.

    A token's lot depends on the seed, the index of the head, the number of valid tokens and which of them it
    is, and on nothing
    else: not on the other samples of the batch, not on padding, not on the step of training. Two samples of
    the same length therefore keep the same places, and so do the layers of a model.

    Source: ours; the mixing is the finaliser of MurmurHash3 (public domain, Austin Appleby).
    """

    kind: Literal["random"] = "random"
    seed: int = 0

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """The token's lot, in [0, 1)."""
        mask = layer.mask
        heads = torch.arange(mask.shape[1], device=mask.device)[None, :, None]
        number = mask.sum(dim=-1, keepdim=True)
        bits = mix(torch.full_like(number, self.seed & LOW_32_BITS))
        for value in (heads, number, mask.cumsum(dim=-1)):
            bits = mix(bits ^ value)
        return (bits >> 8).to(torch.float32) / 2**24


def mix(bits: Int[Tensor, "*s"]) -> Int[Tensor, "*s"]:
    """Mix 32 bits (kept in 64), one to one: each bit of the result depends on each bit of the input."""
    bits = bits ^ (bits >> 16)
    bits = (bits * 0x85EBCA6B) & LOW_32_BITS
    bits = bits ^ (bits >> 13)
    bits = (bits * 0xC2B2AE35) & LOW_32_BITS
    return bits ^ (bits >> 16)
