"""Heads of a cache: some of them, and all side by side, for maps over all heads of a layer."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kvdistill.kv import Geometry, LayerGeometry, ModelKV
from kvdistill.ops import host_reads


def flatten_heads(states: Float[Tensor, "B H N W"], mask: Bool[Tensor, "B H N"]) -> Float[Tensor, "B N w"]:
    """Concatenate the heads of each token; padding is read as 0.

    Args:
        states: Keys or values of one layer.
        mask: True where the slot holds a token.

    Returns:
        (B, N, H W), the first head first, in the same dtype.
    """
    # torch.where, since NaN under padding would reach the gradient of a map.
    return torch.where(mask[..., None], states, 0.0).transpose(1, 2).flatten(2)


def shared_mask(kv: ModelKV) -> Bool[Tensor, "B N"]:
    """The mask that all heads of all layers have in common.

    Args:
        kv: A cache of N slots per layer and head.

    Returns:
        (B, N), True where every layer holds a token.

    Raises:
        ValueError: if the heads of a layer hold different tokens.
    """
    if host_reads(kv.layers[0].mask):
        _require_equal_heads(kv)
    return torch.stack([layer.mask[:, 0] for layer in kv.layers]).all(0)


def _require_equal_heads(kv: ModelKV) -> None:
    differs = [
        torch.stack([(x != x[:, :1]).any() for x in (layer.mask, layer.positions)]) for layer in kv.layers
    ]
    # One transfer from the device for all layers.
    unlike = torch.stack(differs).any(-1).tolist()
    if any(unlike):
        layer_id = kv.layer_ids[unlike.index(True)]
        raise ValueError(
            f"align: the heads of layer {layer_id} of {kv.source} hold different tokens, which a map over "
            "all heads would mix. Align a cache in which all heads hold the same tokens (compress after "
            "alignment, or with selection 'shared')."
        )


def geometry_of_heads(geometry: Geometry, heads: Sequence[int]) -> Geometry:
    """The attention layers of a model with some of its key/value heads.

    Args:
        geometry: All heads of each layer.
        heads: Indices of the heads to keep, from 0, in the order wanted.

    Returns:
        The same layers with fewer heads; ``head_ids`` has their numbers.

    Raises:
        ValueError: if a layer has no such head.
    """
    layers = []
    for layer_id, layer in zip(geometry.layer_ids, geometry.layers, strict=True):
        lacking = [head for head in heads if not 0 <= head < layer.heads]
        if lacking:
            raise ValueError(
                f"there is no head {lacking[0]}: layer {layer_id} has {layer.heads} key/value heads (0 to "
                f"{layer.heads - 1})"
            )
        layers.append(_layer_of_heads(layer, heads))
    return replace(geometry, layers=tuple(layers))


def select_heads(kv: ModelKV, heads: Sequence[int]) -> ModelKV:
    """Some of the key/value heads of a cache.

    Args:
        kv: A cache of N slots with all heads.
        heads: Indices of the heads to keep, in the order wanted.

    Returns:
        The same layers and slots with those heads, importance included.
    """
    kept = list(heads)
    # (B, H, N, ...) -> (B, h, N, ...)
    return kv.map(tuple(layer.map_slots(lambda tensor: tensor[:, kept]) for layer in kv.layers))


def _layer_of_heads(layer: LayerGeometry, heads: Sequence[int]) -> LayerGeometry:
    gain = layer.key_norm
    if gain is not None and gain.ndim > 1:
        # A norm that spans all heads has a gain for each, (H, K) -> (h, K).
        gain = gain[list(heads)]
    return replace(layer, heads=len(heads), key_norm=gain, head_ids=tuple(heads))
