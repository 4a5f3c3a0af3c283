"""R-KV as KaVa uses it: importance to the answer and redundancy among keys."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.compress.base import ScoreCompressor, require_importance
from kvdistill.kv import LayerKV, ModelKV
from kvdistill.layer_batch import stack, stackable
from kvdistill.ops import host_reads

BLOCK = 512
"""Keys in one block: few enough to stay in the processor's cache, enough to be worth a kernel call."""
TINY = 1e-8
"""Added to a key's norm, as the paper's listing does."""


@dataclass(frozen=True, kw_only=True)
class RKV(ScoreCompressor):
    """Keep tokens by ``S = λ I + (1 - λ) R``: importance to the answer and distinctness among the keys.

    Source: https://arxiv.org/abs/2510.02312, appendix D.
    Differs: padding is masked before the softmax, not zeroed after it, so that it takes no share of R; kept
    tokens are in time order; the mean cosine is computed in time and memory linear in the tokens.
    """

    kind: Literal["rkv"] = "rkv"
    importance_weight: float = 0.1
    """λ, from 0 (distinctness alone) to 1 (importance alone)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.importance_weight <= 1.0:
            raise ValueError(
                f"RKV: importance_weight (λ) is {self.importance_weight}. Set it between 0 and 1."
            )

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """``λ I + (1 - λ) R``.

        Args:
            layer: One layer of the cache, un-rotated, T slots.

        Returns:
            (B, H, T), the score of each slot.

        Raises:
            ValueError: if the layer carries no importance.
        """
        importance = require_importance(layer, "RKV")
        return self.importance_weight * importance + (1.0 - self.importance_weight) * distinctness(layer)

    def diagnostics(self, kv: ModelKV) -> dict[str, Float[Tensor, ""]]:
        """Range of I and of R over the valid tokens: the term with the larger spread decides the selection.

        Args:
            kv: The cache of a batch over the chain of thought, un-rotated, N tokens.

        Returns:
            Scalars ``importance_min``, ``importance_max``, ``distinctness_min`` and ``distinctness_max``, the
            mean over layers of each; empty where no token is valid.

        Raises:
            ValueError: if a layer carries no importance.
        """
        mask = kv.layers[0].mask
        if host_reads(mask) and not mask.any():
            return {}
        if stackable(kv.layers):
            return _ranges(stack(kv.layers), len(kv.layers))
        layers = [_ranges(layer, 1) for layer in kv.layers]
        return {name: torch.stack([layer[name] for layer in layers]).mean() for name in layers[0]}


def _ranges(layer: LayerKV, number: int) -> dict[str, Float[Tensor, ""]]:
    """Ranges of I and R, each the mean over the ``number`` layers that are stacked."""
    terms = {"importance": require_importance(layer, "RKV"), "distinctness": distinctness(layer)}
    found = {}
    for name, term in terms.items():
        # (L B, H, T) -> (L, B H T)
        lowest = term.masked_fill(~layer.mask, torch.inf).reshape(number, -1).amin(-1)
        highest = term.masked_fill(~layer.mask, -torch.inf).reshape(number, -1).amax(-1)
        found |= {f"{name}_min": lowest.mean(), f"{name}_max": highest.mean()}
    return found


def distinctness(layer: LayerKV) -> Float[Tensor, "B H T"]:
    """``R = softmax(-c)`` over the valid tokens, ``c`` the mean cosine: high where no other key is alike.

    Args:
        layer: One layer of the cache, un-rotated, T slots.

    Returns:
        (B, H, T), sums to 1 over the valid tokens of a head; 0 at padding.

    Source: https://arxiv.org/abs/2510.02312, appendix D.
    """
    # Padding is masked before the softmax, so that it takes no share of R.
    logits = (-mean_cosine(layer)).masked_fill(~layer.mask, -torch.inf)
    return torch.where(layer.mask, logits.softmax(dim=-1), 0.0)


def mean_cosine(layer: LayerKV) -> Float[Tensor, "B H T"]:
    """Sum of each key's cosines to the other valid keys, divided by the number ``n`` of valid keys.

    ``c_i = (k̂_i · Σ_j k̂_j - |k̂_i|²) / n``: the sum over ``j`` is computed once, so that no T x T table is
    needed. It runs in float32 (float64 for float64 keys). Values at padding are ignored.

    Args:
        layer: One layer of the cache, un-rotated, T slots.

    Returns:
        (B, H, T), the mean cosine of each key; 0 at padding.
    """
    precise = torch.promote_types(layer.keys.dtype, torch.float32)
    padded = not (host_reads(layer.mask) and bool(layer.mask.all()))
    # First pass over the keys, in blocks: norms and the sum of the unit keys.
    lengths, total = [], torch.zeros((), dtype=precise, device=layer.keys.device)
    for keys, mask in zip(layer.keys.split(BLOCK, dim=2), layer.mask.split(BLOCK, dim=2), strict=True):
        keys = keys.to(precise)
        if padded:
            # Not a product with the mask: padding may hold NaN.
            keys = torch.where(mask[..., None], keys, 0.0)
        lengths.append(keys.norm(dim=-1, keepdim=True).mT)
        # (B, H, 1, block) @ (B, H, block, K): unit keys and their sum in one matrix product.
        total = total + (1.0 / (lengths[-1] + TINY)) @ keys
    # Second pass: k_i · Σ_j k̂_j, (B, H, 1, T).
    dots = torch.cat([total @ keys.to(precise).mT for keys in layer.keys.split(BLOCK, dim=2)], dim=-1)
    length = torch.cat(lengths, dim=-1)
    # The square is the cosine of a key with itself.
    cosines = dots / (length + TINY) - (length / (length + TINY)).square()
    number = layer.mask.sum(dim=-1, keepdim=True).clamp_min(1)
    return torch.where(layer.mask, cosines.squeeze(2) / number, 0.0)
