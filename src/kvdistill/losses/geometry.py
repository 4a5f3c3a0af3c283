"""Where the keys and values of target and student are compared: at which slots, and in which rotation."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.kv import LayerKV, ModelKV, Rope
from kvdistill.ops import rotate, to_float32


@dataclass(frozen=True, slots=True)
class CachedFrame:
    """What puts un-rotated keys back to the positions that they have in their model's own cache.

    One rotation serves both sides: caches are compared as cached only in self-distillation or between equal
    rotations.

    Source: https://arxiv.org/abs/2510.02312, equation 7 (the plain reading of "the cache").
    """

    ropes: tuple[Rope | None, ...]
    """The rotation of each compared layer; None where its keys do not turn."""
    teacher_start: Int[Tensor, " B"]
    """Absolute position of the token that the target counts as 0."""
    student_start: Int[Tensor, " B"]
    """Absolute position of the student's slot 0."""

    def turn(self, index: int, target: LayerKV, student: LayerKV) -> tuple[LayerKV, LayerKV]:
        """Rotate both sides of compared layer ``index`` to their absolute positions (start + position)."""
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
    """How much each of the student's slots says about each token of a full-length target; rows sum to 1 at
    valid tokens.

    Valid token i of N reads the M valid slots at ``u_i = i (M - 1) / max(N - 1, 1)``: between two slots by
    linear interpolation if N > M, else slot ``round(u_i)`` alone (a half is rounded up, so no slot serves two
    tokens). Order is the order of the slot axis; padding may stand anywhere.

    Source: ours.
    """
    num_tokens, num_slots = tokens.sum(-1, keepdim=True), slots.sum(-1, keepdim=True)
    span = (num_tokens - 1).clamp_min(1)
    walk = (tokens.cumsum(-1) - 1) * (num_slots - 1)
    nearest = ((2 * walk + span) // (2 * span)).to(dtype)
    at = torch.where(num_tokens <= num_slots, nearest, walk.to(dtype) / span)
    rank = (slots.cumsum(-1) - 1).to(dtype)
    hat = (1 - (at[..., :, None] - rank[..., None, :]).abs()).clamp_min(0)
    return hat * (tokens[..., :, None] & slots[..., None, :])


def read_at_tokens(target: ModelKV, student: ModelKV) -> tuple[ModelKV, ModelKV]:
    """Bring both sides to the target's token axis (letters: N tokens, M slots), for targets that keep all
    their tokens.

    Keys must be un-rotated: interpolating rotated keys mixes angles. The target comes back as it is, masked
    where the student has no slot at all; the student comes back read at every valid token (see
    ``reading_weights``).

    Source: ours.
    """
    pairs = tuple(_read_layer(t, s) for t, s in zip(target.layers, student.layers, strict=True))
    return target.map(tuple(t for t, _ in pairs)), student.map(tuple(s for _, s in pairs))


def _read_layer(target: LayerKV, student: LayerKV) -> tuple[LayerKV, LayerKV]:
    mask = target.mask & student.mask.any(-1, keepdim=True)
    keys, values = mask_invalid(student.keys, student.mask), mask_invalid(student.values, student.mask)
    with torch.autocast(keys.device.type, enabled=False):
        weights = reading_weights(target.mask, student.mask, keys.dtype)
        read = LayerKV(keys=weights @ keys, values=weights @ values, mask=mask, positions=target.positions)
    return target.replace(mask=mask), read


@torch.no_grad()
def least_squares_reconstruction(target: ModelKV, student: ModelKV) -> ModelKV:
    """The target as the best possible student would be read at its tokens: its least-squares fit by M slots,
    a sample and head.

    What it misses of the target is the floor that no training of the student's M slots goes below under a
    squared distance; it is 0 where N <= M. Letters as in ``read_at_tokens``.

    Source: ours (normal equations of the linear interpolation).
    """
    return target.map(tuple(_fit_layer(t, s) for t, s in zip(target.layers, student.layers, strict=True)))


def _fit_layer(target: LayerKV, student: LayerKV) -> LayerKV:
    keys, values = mask_invalid(target.keys, target.mask), mask_invalid(target.values, target.mask)
    with torch.autocast(keys.device.type, enabled=False):
        weights = reading_weights(target.mask, student.mask, keys.dtype)
        normal = weights.mT @ weights
        # A slot that no token reads has an empty row here; any value fits it, and a 1 keeps the system
        # solvable.
        normal = normal + torch.diag_embed((normal.diagonal(dim1=-2, dim2=-1) == 0).to(normal.dtype))
        fitted = weights @ torch.linalg.solve(normal, weights.mT @ torch.cat((keys, values), dim=-1))
    fitted_keys, fitted_values = fitted.split((keys.shape[-1], values.shape[-1]), dim=-1)
    return target.replace(
        keys=fitted_keys, values=fitted_values, mask=target.mask & student.mask.any(-1, keepdim=True)
    )


def mask_invalid(values: Float[Tensor, "B H T W"], mask: Bool[Tensor, "B H T"]) -> Float[Tensor, "B H T W"]:
    """The same numbers, at least float32, with 0 where nothing is: what padding holds (even NaN) reaches no
    sum, no gradient.
    """
    return torch.where(mask[..., None], to_float32(values), 0.0)


def require_same_shape(target: ModelKV, student: ModelKV, geometry: Literal["slots", "tokens"]) -> None:
    """Refuse caches that cannot be compared; the number of slots is free where the target keeps its tokens.

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
        aligned = found if geometry == "slots" else ((*found[0][:2], expected[0][2], found[0][3]), found[1])
        if expected != aligned:
            raise ValueError(
                f"losses: keys (batch, heads, slots, width) and value width of student layer {layer_id} are "
                f"{expected}, the target's "
                f"from {target.source} {found}. Compress to the student's slots (kvdistill.compress) and "
                "bring heads and widths to its "
                "geometry (kvdistill.align) first."
            )
