"""R-KV as its authors use it during decoding: recent window, pooled importance, redundancy."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from kvdistill.compress.base import ScoreCompressor, require_importance, valid_first
from kvdistill.compress.rkv import TINY
from kvdistill.kv import LayerKV, ModelKV

ROWS = 64
"""Rows of the cosine matrix in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class RKVDecode(ScoreCompressor):
    """Keep a window of recent tokens, and the others by ``S = λ I - (1 - λ) R``.

    Importance I is max-pooled over neighbors; redundancy R is high where a key resembles others. In each row
    of the cosine matrix the entry of the last similar token is set to 0, so that the latest of several alike
    tokens does not count as redundant.

    Source: https://arxiv.org/abs/2505.24133, and the selection in the authors' published code.
    Differs: I is the attention of the answer (``importance``), where decoding has the attention of the
    window's own queries; the authors' code has λ = 0.07, their paper 0.1. Padding is left out everywhere,
    time and memory for the table are those of blocks of rows, and kept tokens are in time order.
    """

    kind: Literal["rkv_decode"] = "rkv_decode"
    importance_weight: float = 0.1
    """λ, from 0 to 1. Does not transfer from ``rkv``: there R is added, here subtracted."""
    window: int = 8
    """Tokens at the end that are always kept; fewer than there are slots."""
    pool: int = 7
    """Width of the max-pool over neighbors, in tokens; odd."""
    threshold: float = 0.5
    """Cosine above which two keys count as alike, from 0 to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.importance_weight <= 1.0:
            raise ValueError(
                f"RKVDecode: importance_weight (λ) is {self.importance_weight}. Set it between 0 and 1."
            )
        if self.window < 1 or self.pool < 1 or self.pool % 2 == 0:
            raise ValueError(
                f"RKVDecode: window is {self.window} and pool {self.pool}. Set both to 1 or more, and pool "
                "to an odd number."
            )
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(
                f"RKVDecode: threshold is {self.threshold}. It is a cosine: set it between 0 and 1."
            )

    def compress(self, kv: ModelKV, slots: int) -> ModelKV:
        """Keep the window and the best of the other tokens.

        Args:
            kv: The cache of a batch over the chain of thought, un-rotated, N tokens.
            slots: M, the number of the student's latent slots; more than ``window``.

        Returns:
            The cache in M slots, in time order.

        Raises:
            ValueError: if ``slots`` does not exceed the window, or as for every compressor.
        """
        if 1 <= slots <= self.window:
            raise ValueError(
                f"RKVDecode: a window of {self.window} fills slots={slots}. Set window below the number of "
                "slots."
            )
        return super().compress(kv, slots)

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """``λ I - (1 - λ) R``, and ``inf`` in the window.

        Args:
            layer: One layer of the cache, un-rotated, T slots.

        Returns:
            (B, H, T), the score of each slot.

        Raises:
            ValueError: if the layer carries no importance.
        """
        importance = require_importance(layer, "RKVDecode")
        # Valid tokens after each slot: the window is the last ones of each sample, not of the padded batch.
        from_end = layer.mask.sum(dim=-1, keepdim=True) - layer.mask.cumsum(dim=-1)
        recent = layer.mask & (from_end < self.window)
        # The window is left out of the pool: it is kept in any case and must not raise its neighbors.
        pooled = pool_neighbours(importance, layer.mask & ~recent, self.pool)
        redundancy = self.redundancy(layer)
        return (self.importance_weight * pooled - (1.0 - self.importance_weight) * redundancy).masked_fill(
            recent, torch.inf
        )

    def redundancy(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """``R``: softmax over the valid tokens of the mean cosine, last similar tokens left out.

        Args:
            layer: One layer of the cache, un-rotated, T slots.

        Returns:
            (B, H, T), sums to 1 over the valid tokens of a head; 0 at padding.
        """
        mask = layer.mask
        number = mask.sum(dim=-1, keepdim=True).clamp_min(1)
        logits = (self._column_sums(layer) / number).masked_fill(~mask, -torch.inf)
        return torch.where(mask, logits.softmax(dim=-1), 0.0)

    def _column_sums(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        # Keys of padding are set to zero, so their cosines are 0: never above the threshold, no part of the
        # sums.
        mask = layer.mask
        keys = torch.where(
            mask[..., None], layer.keys.to(torch.promote_types(layer.keys.dtype, torch.float32)), 0.0
        )
        unit = keys / (keys.norm(dim=-1, keepdim=True) + TINY)
        time = torch.arange(mask.shape[-1], device=mask.device)
        first = valid_first(mask)[..., None, :1]
        sums = torch.zeros_like(unit[..., 0])
        # Blocks of rows: the T x T matrix is never in memory at once.
        for rows in time.split(ROWS):
            # (B, H, rows, T), without each key's cosine with itself.
            cosines = (unit[:, :, rows] @ unit.mT).masked_fill(rows[:, None] == time, 0.0)
            # Last similar token of each row; the first valid token where none is similar.
            last = torch.where(cosines > self.threshold, time, first).amax(dim=-1, keepdim=True)
            sums = sums + cosines.scatter(-1, last, 0.0).sum(dim=-2)
        return sums


def pool_neighbours(
    values: Float[Tensor, "B H T"], where: Bool[Tensor, "B H T"], width: int
) -> Float[Tensor, "B H T"]:
    """Max-pool along the slots, over the selected slots as if there were no others.

    Args:
        values: (B, H, T), the numbers to pool.
        where: (B, H, T), True at the selected slots.
        width: Width of the pool in slots; odd.

    Returns:
        (B, H, T), the pooled values at the selected slots; 0 elsewhere.
    """
    # Selected slots moved to the front, so that neighbors in the pool are neighbors in the text.
    order = valid_first(where)
    packed = values.masked_fill(~where, -torch.inf).gather(-1, order)
    pooled = F.max_pool1d(packed, width, stride=1, padding=width // 2)
    return torch.where(where, torch.zeros_like(values).scatter(-1, order, pooled), 0.0)
