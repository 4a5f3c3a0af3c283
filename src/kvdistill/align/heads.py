"""Heads of a cache side by side, for maps over all heads of a layer."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kvdistill.kv import ModelKV


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
    return torch.stack([layer.mask[:, 0] for layer in kv.layers]).all(0)
