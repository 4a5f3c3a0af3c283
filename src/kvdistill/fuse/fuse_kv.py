"""Weighted mean of several teachers' caches that are aligned with the student's tokens and geometry."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kvdistill.kv import LayerKV, ModelKV, require_unrotated
from kvdistill.ops import host_reads, to_float32


def normalized_weights(
    weights: Float[Tensor, "*b E"], covered: Bool[Tensor, "B E N"]
) -> Float[Tensor, "*c E N"]:
    """The share of each teacher at each token, over the teachers that cover it.

    Args:
        weights: (E,), (B, E) or (B, L, E), weight of each of the E teachers, of one sample, in one layer;
            0 or more. They need not sum to 1.
        covered: (B, E, N), True where the teacher has read the token.

    Returns:
        (B, E, N), or (B, L, E, N) where the weights differ between layers. Sums to 1 over E where a teacher
        of nonzero weight covers the token, else 0.

    Source: ours.
    """
    if weights.ndim == 3:
        # One more axis, for the layers, that coverage does not depend on: (B, E, N) -> (B, 1, E, N)
        covered = covered[:, None]
    else:
        weights = weights.expand(len(covered), -1)
    # (B, E) -> (B, E, N), or (B, L, E) -> (B, L, E, N)
    shares = torch.where(covered, weights[..., None], 0.0)
    total = shares.sum(-2, keepdim=True)
    return shares / torch.where(total > 0, total, 1.0)


def over_present(weights: Float[Tensor, "*b E"], present: Bool[Tensor, "B E"]) -> Float[Tensor, "*c E"]:
    """The weights of each sample, over the teachers that cover a token of it.

    Args:
        weights: (E,), (B, E) or (B, L, E), 0 or more.
        present: (B, E), True where the teacher covers a token of the sample.

    Returns:
        (B, E) or (B, L, E). Sums to 1 over E where a teacher of nonzero weight is present, else 0.
    """
    return normalized_weights(weights, present[..., None])[..., 0]


def fuse(caches: Sequence[ModelKV], weights: Float[Tensor, "*c E N"]) -> ModelKV:
    """Weighted mean of keys, values and importance.

    Args:
        caches: E caches over the same N tokens, un-rotated, all in one geometry.
        weights: (B, E, N) for all layers, or (B, L, E, N), from ``normalized_weights``.

    Returns:
        One cache with the tokens of the first. Its importance is normalized to sum to 1 over the valid
        tokens of each head; None where a teacher has none.

    Raises:
        ValueError: if keys are rotated, or the caches hold different tokens or geometries.

    Source: ours.
    """
    for kv in caches:
        require_unrotated(kv, "fuse/fuse_kv")
        _require_alike(caches[0], kv)
    layers: list[LayerKV] = []
    for index, each in enumerate(zip(*(kv.layers for kv in caches), strict=True)):
        own = weights
        if weights.ndim == 4:
            own = weights[:, index]
        # (B, E, N) -> E x (B, 1, N): one share for all heads.
        shares = [share[:, None] for share in own.unbind(1)]
        layers.append(_fused(each, shares))
    names = " + ".join(kv.source for kv in caches)
    return ModelKV(tuple(layers), caches[0].layer_ids, names)


def _fused(layers: Sequence[LayerKV], shares: Sequence[Float[Tensor, "B 1 N"]]) -> LayerKV:
    first = layers[0]
    importance = None
    if all(layer.importance is not None for layer in layers):
        importance = _mean([layer.importance for layer in layers], shares)  # pyright: ignore
        importance = torch.where(first.mask, importance, 0.0)
        # Tokens without a teacher have none; the rest is scaled to sum to 1.
        importance = importance / importance.sum(-1, keepdim=True).clamp_min(1e-12)
    wide = [share[..., None] for share in shares]
    return first.replace(
        keys=_mean([layer.keys for layer in layers], wide),
        values=_mean([layer.values for layer in layers], wide),
        importance=importance,
    )


def _mean(tensors: Sequence[Tensor], shares: Sequence[Tensor]) -> Tensor:
    """Weighted sum; where a share is 0 the tensor is not read, so that NaN there stays out."""
    total: Tensor | None = None
    for tensor, share in zip(tensors, shares, strict=True):
        # The tensor is cleared first: NaN times a share of 0 would be NaN in the share's gradient.
        part = share * torch.where(share > 0, to_float32(tensor), 0.0)
        total = part if total is None else total + part
    assert total is not None
    return total


def _require_alike(one: ModelKV, other: ModelKV) -> None:
    for layer_id, ours, theirs in zip(one.layer_ids, one.layers, other.layers, strict=True):
        shapes = [(layer.keys.shape, layer.values.shape) for layer in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"fuse/fuse_kv: layer {layer_id} has keys and values of shapes {shapes[0]} in {one.source} "
                f"and {shapes[1]} in {other.source}. Align both to the student first (kvdistill.align)."
            )
        if not host_reads(ours.mask):
            continue
        if not torch.equal(ours.mask, theirs.mask) or not torch.equal(ours.positions, theirs.positions):
            raise ValueError(
                f"fuse/fuse_kv: layer {layer_id} holds different tokens in {one.source} and in "
                f"{other.source}. Fuse before compression, or compress with one selection for all."
            )
