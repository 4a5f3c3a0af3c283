"""Maths that more than one folder uses."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.kv import Rope

EPSILON = 1e-6


def masked_mean(
    values: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"], dims: tuple[int, ...]
) -> Float[Tensor, "*r"]:
    """Mean of ``values`` over ``dims`` where ``mask`` is True; 0 where nothing is."""
    weight = mask.to(values.dtype)
    return torch.where(mask, values, 0.0).sum(dims) / weight.sum(dims).clamp_min(1.0)


def masked_std(values: Float[Tensor, "B H T W"], mask: Bool[Tensor, "B H T"]) -> Float[Tensor, " B"]:
    """Standard deviation (population) over heads, valid slots and width of each sample, floor 1e-6.

    For detached tensors: where the variance is 0 the gradient is not a number.
    """
    wide = mask[..., None].expand_as(values)
    mean = masked_mean(values, wide, (1, 2, 3))
    square = masked_mean((values - mean[:, None, None, None]).square(), wide, (1, 2, 3))
    return square.sqrt().clamp_min(EPSILON)


def rope_angles(
    rope: Rope, positions: Int[Tensor, "*p"]
) -> tuple[Float[Tensor, "*p F"], Float[Tensor, "*p F"]]:
    """Cosine and sine of every channel pair at every position, in float32, without the attention factor."""
    freq = rope.inv_freq.to(device=positions.device, dtype=torch.float32)
    if freq.ndim == 2:
        freq = freq.reshape(freq.shape[0], *[1] * (positions.ndim - 1), freq.shape[1])
    angles = positions[..., None].to(torch.float32) * freq
    return angles.cos(), angles.sin()


def rotate(
    keys: Float[Tensor, "B H T K"], positions: Int[Tensor, "B #H T"], rope: Rope, inverse: bool = False
) -> Float[Tensor, "B H T K"]:
    """Turn keys to their positions as ``rope`` does, or (``inverse``) take a rotation off.

    The attention factor ``a`` is multiplied in; since cosine and sine both carry it, taking the rotation off
    divides by ``a`` once (the transposed rotation with the same cosine and sine would leave ``a`` squared).
    """
    cos, sin = rope_angles(rope, positions)
    if inverse:
        sin, scale = -sin, 1.0 / rope.factor
    else:
        scale = rope.factor
    cos, sin = (cos * scale).to(keys.dtype), (sin * scale).to(keys.dtype)
    half = rope.inv_freq.shape[-1]
    before, turning, after = keys.tensor_split((rope.start, rope.start + 2 * half), dim=-1)
    if rope.convention == "half_split":
        first, second = turning[..., :half], turning[..., half:]
        turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    else:
        first, second = turning[..., 0::2], turning[..., 1::2]
        turned = torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1).flatten(-2)
    if turning.shape[-1] == keys.shape[-1]:
        return turned
    return torch.cat((before, turned, after), dim=-1)


def to_float32(values: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """The same numbers in float32, or in float64 where they are float64: sums over a cache overflow half
    precision.
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
