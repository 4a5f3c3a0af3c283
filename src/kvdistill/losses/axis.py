"""Axis of the comparison, slots or tokens, and its frame: un-rotated keys or keys rotated as in the cache."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.kv import LayerKV, ModelKV, Rope
from kvdistill.ops import rotate, to_float32


@dataclass(frozen=True, slots=True)
class CachedFrame:
    """Rotations and start positions that give un-rotated keys their absolute positions in the cache.

    One rotation is applied to both sides: caches are compared as cached only in self-distillation or between
    models with equal rotations.

    Source: https://arxiv.org/abs/2510.02312, equation 7 (the plain reading of "the cache").
    """

    ropes: tuple[Rope | None, ...]
    """The rotation of each compared layer; None for layers without rotary positions."""
    teacher_start: Int[Tensor, " B"]
    """Absolute position of the target's token 0."""
    student_start: Int[Tensor, " B"]
    """Absolute position of the student's slot 0."""

    def turn(self, index: int, target: LayerKV, student: LayerKV) -> tuple[LayerKV, LayerKV]:
        """Rotate both sides of one layer to their absolute positions (start + position).

        Args:
            index: Index of the compared layer.
            target: That layer of the target, un-rotated.
            student: That layer of the student's cache, un-rotated.

        Returns:
            Target and student layer with rotated keys in float32 or float64; unchanged without a rotation.
        """
        rope = self.ropes[index]
        if rope is None:
            return target, student
        return _rotated(target, self.teacher_start, rope), _rotated(student, self.student_start, rope)


def _rotated(layer: LayerKV, start: Int[Tensor, " B"], rope: Rope) -> LayerKV:
    return layer.replace(
        keys=rotate(to_float32(layer.keys), start[:, None, None] + layer.positions, rope), rope=rope
    )


def reading_weights(
    tokens: Bool[Tensor, "B H N"], slots: Bool[Tensor, "B H M"], dtype: torch.dtype
) -> Float[Tensor, "B H N M"]:
    """Interpolation weights of the student's slots at each token of a full-length target.

    Valid token i of N reads the M valid slots at ``u_i = i (M - 1) / max(N - 1, 1)``: by linear interpolation
    between two slots if N > M, else at slot ``round(u_i)`` alone (a half is rounded up, so no slot is read by
    two tokens). Order is the order of the slot axis; padding may be anywhere.

    Args:
        tokens: (B, H, N), mask of the target's tokens.
        slots: (B, H, M), mask of the student's slots.
        dtype: Floating-point type of the weights.

    Returns:
        (B, H, N, M). Rows sum to 1 at valid tokens of samples with a valid slot; 0 at padding of either side.

    Source: ours.
    """
    num_tokens, num_slots = tokens.sum(-1, keepdim=True), slots.sum(-1, keepdim=True)
    # Numerator and denominator of u_i stay integers, so that rounding a half is exact.
    span = (num_tokens - 1).clamp_min(1)
    walk = (tokens.cumsum(-1) - 1) * (num_slots - 1)
    nearest = ((2 * walk + span) // (2 * span)).to(dtype)
    at = torch.where(num_tokens <= num_slots, nearest, walk.to(dtype) / span)
    # Index of each slot among the valid ones; (B, H, M).
    rank = (slots.cumsum(-1) - 1).to(dtype)
    # Hat function around each slot: 1 at the slot, 0 one slot away.
    hat = (1 - (at[..., :, None] - rank[..., None, :]).abs()).clamp_min(0)
    return hat * (tokens[..., :, None] & slots[..., None, :])


def read_at_tokens(target: ModelKV, student: ModelKV) -> tuple[ModelKV, ModelKV]:
    """Interpolate the student's cache to the target's token axis, for targets that keep all their tokens.

    Keys must be un-rotated: interpolating rotated keys mixes angles. See ``reading_weights``.

    Args:
        target: The target cache of N tokens, un-rotated.
        student: The latent cache of M slots, un-rotated.

    Returns:
        The target, unchanged but masked where the student has no valid slot; and the student's cache at N
        tokens, in float32 or float64, with gradients to its M slots.

    Source: ours.
    """
    pairs = tuple(_read_layer(t, s) for t, s in zip(target.layers, student.layers, strict=True))
    return target.map(tuple(t for t, _ in pairs)), student.map(tuple(s for _, s in pairs))


def _read_layer(target: LayerKV, student: LayerKV) -> tuple[LayerKV, LayerKV]:
    # A sample whose student has no valid slot has nothing to read and is masked.
    mask = target.mask & student.mask.any(-1, keepdim=True)
    keys, values = mask_invalid(student.keys, student.mask), mask_invalid(student.values, student.mask)
    with torch.autocast(keys.device.type, enabled=False):
        weights = reading_weights(target.mask, student.mask, keys.dtype)
        # (B, H, N, M) @ (B, H, M, W)
        read = LayerKV(keys=weights @ keys, values=weights @ values, mask=mask, positions=target.positions)
    return target.replace(mask=mask), read


@torch.no_grad()
def least_squares_reconstruction(target: ModelKV, student: ModelKV) -> ModelKV:
    """Least-squares fit of the target's N tokens by M slots, per sample and head.

    This is what the best possible student would give at the target's tokens. Its squared distance to the
    target is the lower bound of the loss for any M slots; it is 0 where N <= M.

    Args:
        target: The target cache of N tokens, un-rotated.
        student: The latent cache of M slots; only its mask is used.

    Returns:
        The fitted cache of N tokens, outside the autograd graph.

    Source: ours (normal equations of the linear interpolation).
    """
    return target.map(tuple(_fit_layer(t, s) for t, s in zip(target.layers, student.layers, strict=True)))


def _fit_layer(target: LayerKV, student: LayerKV) -> LayerKV:
    keys, values = mask_invalid(target.keys, target.mask), mask_invalid(target.values, target.mask)
    with torch.autocast(keys.device.type, enabled=False):
        weights = reading_weights(target.mask, student.mask, keys.dtype)
        # Keys and values share the weights, so one solve fits both; (B, H, N, K + V).
        target_kv = weights.mT @ torch.cat((keys, values), dim=-1)
        fitted = weights @ torch.linalg.solve(_normal_matrix(weights), target_kv)
    fitted_keys, fitted_values = fitted.split((keys.shape[-1], values.shape[-1]), dim=-1)
    return target.replace(
        keys=fitted_keys, values=fitted_values, mask=target.mask & student.mask.any(-1, keepdim=True)
    )


def fitting_weights(
    tokens: Bool[Tensor, "B H N"], slots: Bool[Tensor, "B H M"], dtype: torch.dtype
) -> Float[Tensor, "B H M N"]:
    """Weight of each token in the slots that fit a full-length target best (least squares).

    They are what a loss on the ``tokens`` axis asks of a slot: with far fewer slots than tokens each one is a
    blend of its neighborhood.

    Args:
        tokens: (B, H, N), mask of the target's tokens.
        slots: (B, H, M), mask of the student's slots.
        dtype: Floating-point type of the weights.

    Returns:
        (B, H, M, N), ``(WᵀW)⁻¹ Wᵀ`` with the reading weights W. A row sums to 1; it is 0 where no token
        reads the slot.

    Source: ours (normal equations of the linear interpolation).
    """
    weights = reading_weights(tokens, slots, dtype)
    return torch.linalg.solve(_normal_matrix(weights), weights.mT)


def _normal_matrix(weights: Float[Tensor, "B H N M"]) -> Float[Tensor, "B H M M"]:
    """``WᵀW`` of the normal equations ``WᵀW x = Wᵀ target``, solvable."""
    normal = weights.mT @ weights
    # A slot that no token reads has a zero row here; any value fits it, and a 1 on the diagonal keeps
    # the system solvable.
    return normal + torch.diag_embed((normal.diagonal(dim1=-2, dim2=-1) == 0).to(normal.dtype))


def mask_invalid(values: Float[Tensor, "B H T W"], mask: Bool[Tensor, "B H T"]) -> Float[Tensor, "B H T W"]:
    """Set padding to 0, so that its contents (even NaN) reach no sum and no gradient.

    Args:
        values: (B, H, T, W), keys or values.
        mask: (B, H, T), True at valid slots.

    Returns:
        (B, H, T, W), float32 or float64.
    """
    # Not values * mask: NaN times 0 is NaN.
    return torch.where(mask[..., None], to_float32(values), 0.0)


def require_same_shape(target: ModelKV, student: ModelKV, axis: Literal["slots", "tokens"]) -> None:
    """Check that two caches can be compared.

    Args:
        target: The target cache, M slots or N tokens.
        student: The student's cache in the target's heads and widths, M slots.
        axis: With ``tokens`` the numbers of slots may differ.

    Raises:
        ValueError: if the numbers of layers, or the shapes of a layer, differ.
    """
    if len(target.layers) != len(student.layers):
        raise ValueError(
            f"losses: the target from {target.source} has {len(target.layers)} layers, the student "
            f"{len(student.layers)}. "
            "Map the target's layers to the student's first (kvdistill.align)."
        )
    for layer_id, ours, theirs in zip(student.layer_ids, student.layers, target.layers, strict=True):
        expected, found = ((tuple(layer.keys.shape), layer.values.shape[-1]) for layer in (ours, theirs))
        aligned = found
        if axis == "tokens":
            # The student's number of slots takes the place of the target's.
            (batch, heads, _, width), value_width = found
            aligned = ((batch, heads, expected[0][2], width), value_width)
        if expected != aligned:
            raise ValueError(
                f"losses: keys (batch, heads, slots, width) and value width of student layer {layer_id} are "
                f"{expected}, the target's "
                f"from {target.source} {found}. Compress to the student's slots (kvdistill.compress) and "
                "bring heads and widths to its "
                "geometry (kvdistill.align) first."
            )
