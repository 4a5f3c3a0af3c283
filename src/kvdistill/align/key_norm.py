"""The shell of the student's key norm: moves mapped keys to where the student's own keys are."""

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.kv import Geometry, ModelKV

TINY = 1e-12
"""Floor of the mean square, so that keys of 0 stay 0."""


def to_key_norm(kv: ModelKV, student: Geometry) -> ModelKV:
    """Project the keys of every layer with a key norm onto its shell.

    Captured keys are read after the key norm, so each is a gain times a vector of root mean square 1. A
    linear map, or a mean of such keys, leaves that shell.

    Args:
        kv: A cache in the student's geometry, un-rotated.
        student: The student's attention layers, with the gains of their key norms.

    Returns:
        The cache with projected keys; layers without a key norm as they are.

    Source: ours; RMS norm of queries and keys: https://arxiv.org/abs/2302.05442, equation 1.
    """
    layers = []
    for layer_id, layer in zip(kv.layer_ids, kv.layers, strict=True):
        gain = student.layer(layer_id).key_norm
        if gain is not None:
            layer = layer.replace(keys=onto_shell(layer.keys, gain))
        layers.append(layer)
    return kv.map(tuple(layers))


def onto_shell(keys: Float[Tensor, "B H T K"], gain: Float[Tensor, "*h K"]) -> Float[Tensor, "B H T K"]:
    """``k <- g * rms_normalize(k / g)``.

    Args:
        keys: Keys of one layer.
        gain: (K), one norm per head; (H, K), one norm over all heads.

    Returns:
        Keys of the same shape and dtype. A true key of that norm is unchanged, up to the norm's epsilon; a
        key of 0 stays 0.
    """
    wide = gain.to(device=keys.device, dtype=torch.float32)
    # (H, K) -> (H, 1, K), to broadcast over the slots.
    axes: tuple[int, ...] = (-1,)
    if gain.ndim == 2:
        wide, axes = wide[:, None], (1, 3)
    # A channel of gain 0 is 0 in every key and is left out of the mean.
    used = wide != 0
    bare = torch.where(used, keys.float() / torch.where(used, wide, 1.0), 0.0)
    square = bare.square().sum(axes, keepdim=True) / used.sum()
    return (wide * bare * square.clamp_min(TINY).rsqrt()).to(keys.dtype)
