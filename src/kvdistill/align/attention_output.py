"""Attention output of a cache under a model's own queries, and its cosine between two caches.

The R² of an adapted cache does not predict how well a model answers with it; the cosine of the attention
output does better.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from kvdistill.kv import LayerKV, ModelKV, Rope, require_unrotated
from kvdistill.ops import rotate, to_float32


@dataclass(frozen=True, slots=True)
class LayerQueries:
    """Queries of one attention layer, and how the layer reads keys with them."""

    query: Float[Tensor, "B Q A K"]
    """Rotated as in the layer."""
    scaling: float
    """Factor of the logits."""
    softcap: float | None = None
    window: int | None = None
    """Sliding window in tokens, None for full attention."""
    rope: Rope | None = None
    """The layer's rotation, for the keys; None where keys are not rotated."""


@dataclass(frozen=True, slots=True)
class AnswerQueries:
    """Queries of the A rows that predict the answer, in every attention layer."""

    layers: tuple[LayerQueries, ...]
    layer_ids: tuple[int, ...]
    """Which layer of its model each entry is."""
    mask: Bool[Tensor, "B A"]
    """False where the answer is padded."""
    positions: Int[Tensor, "B A"]
    """Position id of each row."""
    start: Int[Tensor, " B"]
    """Position id of the first token of the chain of thought."""


def attention_output(queries: AnswerQueries, index: int, layer: LayerKV) -> Float[Tensor, "B Q A V"]:
    """Attention output of the answer rows over the slots of one layer's cache alone.

    ``o = softmax(scaling · q kᵀ) v`` over the visible slots: soft-cap and sliding window are those of
    the layer, and keys are rotated to the positions of their tokens in the text that the queries are from.

    Args:
        queries: Of the answer rows.
        index: Index of the layer among ``queries.layers``.
        layer: Its cache over the chain of thought, un-rotated, T tokens or compressed slots.

    Returns:
        (B, Q, A, V), float32; 0 where a row sees no slot.
    """
    own = queries.layers[index]
    # Token positions within the text -> position ids, (B, H, T).
    positions = layer.positions + queries.start[:, None, None]
    keys, values = to_float32(layer.keys), to_float32(layer.values)
    if own.rope is not None:
        keys = rotate(keys, positions, own.rope)
    # Grouped-query attention: (B, Q, A, K) -> (B, H, G, A, K), the G query heads of each key head.
    grouped = to_float32(own.query).unflatten(1, (keys.shape[1], -1))
    logits = torch.einsum("bhgak,bhtk->bhgat", grouped, keys) * own.scaling
    if own.softcap is not None:
        logits = own.softcap * torch.tanh(logits / own.softcap)
    # (B, H, 1, A, T): the query heads of a group see the same slots.
    visible = _visible(queries, own.window, layer.mask, positions)[:, :, None]
    weights = logits.masked_fill(~visible, torch.finfo(logits.dtype).min).softmax(-1) * visible
    # A weight of 0 would keep a NaN in a masked slot.
    values = values.masked_fill(~layer.mask[..., None], 0.0)
    return torch.einsum("bhgat,bhtv->bhgav", weights, values).flatten(1, 2)


def attention_output_cosine(queries: AnswerQueries, target: ModelKV, own: ModelKV) -> Float[Tensor, "B L"]:
    """Cosine between the attention outputs with an adapted cache and with the model's own.

    Both are read alone, without the question: what the text around the cache adds to both would raise the
    cosine of any target.

    Args:
        queries: Of the answer rows of the model in teacher mode.
        target: The adapted cache over the chain of thought, un-rotated, in the model's geometry.
        own: The model's own teacher-mode cache of the same texts, un-rotated.

    Returns:
        (B, L): mean over query heads and answer rows, -1 to 1. A target without a visible slot counts 0; NaN
        where no row sees any token of the own cache (a sliding window shorter than the answer, or no chain of
        thought), to be averaged over samples with ``nanmean``.

    Source: https://arxiv.org/abs/2608.03893.
    Differs: over the slots of the cache alone.
    """
    for kv in (target, own):
        require_unrotated(kv, "attention_output_cosine")
        if kv.layer_ids != queries.layer_ids:
            raise ValueError(
                f"attention_output_cosine: {kv.source} holds layers {kv.layer_ids}, the queries are of "
                f"layers {queries.layer_ids}. Align the cache to the layers of the model first."
            )
    layers = []
    for index, (theirs, ours) in enumerate(zip(target.layers, own.layers, strict=True)):
        expected = attention_output(queries, index, ours)
        cosine = functional.cosine_similarity(attention_output(queries, index, theirs), expected, dim=-1)
        # (B, Q, A): rows that see nothing of the own cache are left out of the mean.
        counted = (expected != 0).any(-1) & queries.mask[:, None]
        total = torch.where(counted, cosine, 0.0).sum((1, 2))
        layers.append(total / counted.sum((1, 2)))
    return torch.stack(layers, 1)


def _visible(
    queries: AnswerQueries,
    window: int | None,
    mask: Bool[Tensor, "B H T"],
    positions: Int[Tensor, "B H T"],
) -> Bool[Tensor, "B H A T"]:
    """Which slots each answer row sees: valid ones that are not after it, within the layer's window."""
    # (B, 1, A, 1) - (B, H, 1, T)
    distance = queries.positions[:, None, :, None] - positions[:, :, None, :]
    visible = mask[:, :, None, :] & (distance >= 0)
    if window is not None:
        visible &= distance < window
    return visible
