"""Tensor operations that several folders use: masked statistics and rotary embeddings.

Letters of shapes: see ``kv.py``.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.kv import Rope

EPSILON = 1e-6
"""Floor of a standard deviation that is divided by."""


def host_reads(values: Tensor) -> bool:
    """Whether the host may read the values of a tensor, as a check or a shape that depends on them must.

    Args:
        values: Any tensor.

    Returns:
        False while a CUDA graph is captured, and for a tensor without values (device ``meta``).
    """
    return not (values.is_meta or (values.is_cuda and torch.cuda.is_current_stream_capturing()))


def masked_mean(
    values: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"], dims: tuple[int, ...]
) -> Float[Tensor, "*r"]:
    """Mean over the entries where the mask is True.

    Args:
        values: Any shape.
        mask: The same shape.
        dims: Axes to average over.

    Returns:
        ``values`` without the axes ``dims``; 0 where no entry of the mask is True.
    """
    # torch.where, since a product with 0 would keep a NaN under padding.
    weight = mask.to(values.dtype)
    return torch.where(mask, values, 0.0).sum(dims) / weight.sum(dims).clamp_min(1.0)


def masked_std(values: Float[Tensor, "B H T W"], mask: Bool[Tensor, "B H T"]) -> Float[Tensor, " B"]:
    """Standard deviation of each sample over heads, valid slots and channels.

    For detached tensors: where the variance is 0 the gradient is NaN.

    Args:
        values: Keys or values of one layer, (B, H, T, W).
        mask: True where the slot holds a token, (B, H, T).

    Returns:
        Population standard deviation, (B), at least 1e-6.
    """
    wide = mask[..., None].expand_as(values)
    # In two passes: E[x²] - E[x]² cancels where the mean is large.
    mean = masked_mean(values, wide, (1, 2, 3))
    square = masked_mean((values - mean[:, None, None, None]).square(), wide, (1, 2, 3))
    return square.sqrt().clamp_min(EPSILON)


def rope_angles(
    rope: Rope, positions: Int[Tensor, "*p"]
) -> tuple[Float[Tensor, "*p F"], Float[Tensor, "*p F"]]:
    """Cosine and sine of every channel pair at every position, without the attention factor.

    Args:
        rope: Frequencies (F) shared by all samples, or (B, F) per sample.
        positions: Token positions, any shape; the first axis is the batch where frequencies are per sample.

    Returns:
        Cosine and sine in float32, each of the shape of ``positions`` with a last axis F.
    """
    # Angles in float32: bfloat16 rounds angles of thousands of radians by several radians.
    freq = rope.inv_freq.to(device=positions.device, dtype=torch.float32)
    if freq.ndim == 2:
        # (B, F) -> (B, 1, ..., F), so that it broadcasts over heads and slots.
        freq = freq.reshape(freq.shape[0], *[1] * (positions.ndim - 1), freq.shape[1])
    angles = positions[..., None].to(torch.float32) * freq
    return angles.cos(), angles.sin()


def rotate(
    keys: Float[Tensor, "B H T K"], positions: Int[Tensor, "B #H T"], rope: Rope, inverse: bool = False
) -> Float[Tensor, "B H T K"]:
    """Apply a rotary embedding to keys, or remove it (``inverse``).

    The attention factor ``a`` is multiplied in; since cosine and sine both carry it, the inverse divides by
    ``a`` once (the transposed rotation with the same cosine and sine would leave ``a`` squared).

    Args:
        keys: (B, H, T, K).
        positions: Token position of each slot, (B, H, T), or (B, 1, T) for all heads.
        rope: Frequencies, first channel, pairing convention and attention factor of the layer.
        inverse: Whether ``keys`` carry the rotation and it is to be removed.

    Returns:
        Keys in the same shape and dtype.
    """
    cos, sin = rope_angles(rope, positions)
    # The inverse of a rotation by θ is the rotation by -θ: only the sine changes sign.
    if inverse:
        sin, scale = -sin, 1.0 / rope.factor
    else:
        scale = rope.factor
    cos, sin = (cos * scale).to(keys.dtype), (sin * scale).to(keys.dtype)
    half = rope.inv_freq.shape[-1]
    # Partial rotary embeddings rotate 2 F of the K channels; the others are passed through.
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
    """Promote half precision to float32, in which sums over a cache do not overflow.

    Args:
        values: Any shape and floating dtype.

    Returns:
        The same numbers in float32, or unchanged where they are float64.
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
