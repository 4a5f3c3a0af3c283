"""R-KV as KaVa uses it: what the answer attended to, and what the other keys do not say already."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.compress.base import ScoreCompressor, require_importance
from kvdistill.kv import LayerKV, ModelKV

BLOCK = 512
"""Keys read at a time: few enough to be read again from the processor's cache, enough to be worth a call."""
TINY = 1e-8
"""Added to a key's norm, as the paper's listing does."""


@dataclass(frozen=True, kw_only=True)
class RKV(ScoreCompressor):
    """Keep tokens by ``S = λ I + (1 - λ) R``: importance to the answer, and difference from the other keys.

    Source: https://arxiv.org/abs/2510.02312, appendix D.
    Differs: padding is masked before the softmax, not zeroed after it, so that it takes no share of R; kept
    tokens are in time order; the mean cosine is computed in time and memory linear in the tokens.
    """

    kind: Literal["rkv"] = "rkv"
    importance_weight: float = 0.1
    """λ, from 0 to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.importance_weight <= 1.0:
            raise ValueError(
                f"RKV: importance_weight (λ) is {self.importance_weight}. Set it between 0 and 1."
            )

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """``λ I + (1 - λ) R``.

        Raises:
            ValueError: if the layer carries no importance.
        """
        importance = require_importance(layer, "RKV")
        return self.importance_weight * importance + (1.0 - self.importance_weight) * distinctness(layer)

    def diagnostics(self, kv: ModelKV) -> dict[str, Float[Tensor, ""]]:
        """Smallest and largest I and R over all valid tokens, mean over layers, for the log: which decides
        depends on their spread.

        Nothing where no token is valid.

        Raises:
            ValueError: if a layer carries no importance.
        """
        if not kv.layers[0].mask.any():
            return {}
        layers = [_ranges(layer) for layer in kv.layers]
        return {name: torch.stack([layer[name] for layer in layers]).mean() for name in layers[0]}


def _ranges(layer: LayerKV) -> dict[str, Float[Tensor, ""]]:
    terms = {"importance": require_importance(layer, "RKV"), "distinctness": distinctness(layer)}
    lowest = {f"{name}_min": term.masked_fill(~layer.mask, torch.inf).min() for name, term in terms.items()}
    highest = {f"{name}_max": term.masked_fill(~layer.mask, -torch.inf).max() for name, term in terms.items()}
    return lowest | highest


def distinctness(layer: LayerKV) -> Float[Tensor, "B H T"]:
    """``R = softmax(-c)`` over the valid tokens, ``c`` the mean cosine; 0 at padding. High where no other key
    is alike.

    Source: https://arxiv.org/abs/2510.02312, appendix D.
    """
    logits = (-mean_cosine(layer)).masked_fill(~layer.mask, -torch.inf)
    return torch.where(layer.mask, logits.softmax(dim=-1), 0.0)


def mean_cosine(layer: LayerKV) -> Float[Tensor, "B H T"]:
    """``c_i = (k̂_i · Σ_j k̂_j - |k̂_i|²) / n``: cosines to the other valid keys over the number of valid
    keys; 0 at padding.

    The sum over ``j`` is taken once, so that no T x T table is needed. Summed in float32 (float64 for float64
    keys). What stands in padding is not read.
    """
    precise = torch.promote_types(layer.keys.dtype, torch.float32)
    padded = not bool(layer.mask.all())
    lengths, total = [], torch.zeros((), dtype=precise, device=layer.keys.device)
    for keys, mask in zip(layer.keys.split(BLOCK, dim=2), layer.mask.split(BLOCK, dim=2), strict=True):
        keys = keys.to(precise)
        if padded:
            keys = torch.where(mask[..., None], keys, 0.0)
        lengths.append(keys.norm(dim=-1, keepdim=True).mT)
        total = total + (1.0 / (lengths[-1] + TINY)) @ keys
    dots = torch.cat([total @ keys.to(precise).mT for keys in layer.keys.split(BLOCK, dim=2)], dim=-1)
    length = torch.cat(lengths, dim=-1)
    cosines = dots / (length + TINY) - (length / (length + TINY)).square()
    number = layer.mask.sum(dim=-1, keepdim=True).clamp_min(1)
    return torch.where(layer.mask, cosines.squeeze(2) / number, 0.0)
