"""Extraction of un-rotated KV caches from the captured attention layers of one forward pass."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.capture.call import AttentionCall, CapturedAttention, within_window
from kvdistill.capture.importance import answer_attention
from kvdistill.kv import Geometry, LayerGeometry, LayerKV, ModelKV
from kvdistill.ops import rotate


@dataclass(frozen=True, slots=True)
class Columns:
    """Adjacent columns [start, stop) of a sequence that hold one text of T tokens."""

    start: int
    stop: int
    mask: Bool[Tensor, "B T"]
    positions: Int[Tensor, "B T"]
    """Position ids that the model was given there."""
    step_end: Bool[Tensor, "B T"] | None = None
    """True at the last token of a reasoning step; None where the text has no steps."""


@dataclass(frozen=True, slots=True)
class AnswerRows:
    """The rows of a sequence whose next token is a token of the answer."""

    columns: Int[Tensor, "B A"]
    """Column of each row in the sequence."""
    mask: Bool[Tensor, "B A"]
    """False where the answer is padded."""
    positions: Int[Tensor, "B A"]
    """Position id of each row."""


def unrotated(
    keys: Float[Tensor, "B H T K"], positions: Int[Tensor, "B T"], layer: LayerGeometry
) -> Float[Tensor, "B H T K"]:
    """Remove the layer's rotation from keys.

    Args:
        keys: Captured keys, (B, H, T, K).
        positions: Position ids that the model was given, (B, T).
        layer: Geometry of the layer; keys are returned as they are where it has no rotation.

    Returns:
        Keys before the rotation, (B, H, T, K).
    """
    if layer.rope is None:
        return keys
    return rotate(keys, positions[:, None], layer.rope, inverse=True)


def text_order(mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Index of each valid token among the valid tokens of its sample.

    Args:
        mask: True where there is a token, (B, T); padding on either side.

    Returns:
        Indices from 0, (B, T). Padding gets the index of the token before it, or 0.
    """
    # A running count of valid tokens, so that padding on either side does not shift the index.
    return (mask.long().cumsum(-1) - 1).clamp_min(0)


def extract(
    call: AttentionCall, geometry: Geometry, text: Columns, rows: AnswerRows | None, source: str
) -> ModelKV:
    """Extract the un-rotated cache over one text, outside the autograd graph.

    Args:
        call: A finished captured call.
        geometry: The model's layers, with the rotations that they had in this call.
        text: The T columns to extract.
        rows: The A rows whose attention becomes ``importance``; None leaves it out.
        source: Name of the cache, for messages and reports.

    Returns:
        Keys (B, H, T, K), values (B, H, T, V), and mask, positions, importance and step ends (B, H, T) per
        layer. Importance sums to 1 over T; it is uniform where no row sees any token of the text (a sliding
        window shorter than the answer, say).
    """
    layers = []
    for layer_id, seen in sorted(call.seen.items()):
        # A target takes no gradient; the slices are views until they are un-rotated. Only they leave the
        # device of a layer that is not on the device of the text.
        keys, values = (
            seen.keys[:, :, text.start : text.stop].detach().to(text.mask.device),
            seen.values[:, :, text.start : text.stop].detach().to(text.mask.device),
        )
        wide = keys.shape[:3]  # (B, H, T): heads start alike, compressors may then keep different tokens
        importance, step_end = None, None
        if rows is not None:
            importance = _importance(seen, keys, text, rows)
        if text.step_end is not None:
            step_end = text.step_end[:, None].expand(wide)
        layers.append(
            LayerKV(
                keys=unrotated(keys, text.positions, geometry.layer(layer_id)),
                values=values,
                mask=text.mask[:, None].expand(wide),
                positions=text_order(text.mask)[:, None].expand(wide),
                importance=importance,
                step_end=step_end,
            )
        )
    return ModelKV(tuple(layers), tuple(sorted(call.seen)), source)


@torch.no_grad()
def _importance(
    seen: CapturedAttention, keys: Tensor, text: Columns, rows: AnswerRows
) -> Float[Tensor, "B H T"]:
    query = gather_rows(seen.query, rows.columns.to(seen.query.device)).to(keys.device)  # (B, Q, A, K)
    # (B, A, T): valid rows see valid tokens that are not after them, within the layer's sliding window.
    visible = (
        rows.mask[:, :, None]
        & text.mask[:, None, :]
        & (rows.positions[:, :, None] >= text.positions[:, None, :])
    )
    visible = within_window(visible[:, None], rows.positions, text.positions, seen.window)[:, 0]
    weights = answer_attention(seen, query, keys, visible)
    # Uniform importance for samples none of whose rows sees the text.
    even = text.mask.float() / text.mask.sum(-1, keepdim=True).clamp_min(1)
    unseen = ~visible.any((-1, -2))
    return torch.where(unseen[:, None, None], even[:, None].expand_as(weights), weights)


def gather_rows(states: Float[Tensor, "B Q S K"], columns: Int[Tensor, "B A"]) -> Float[Tensor, "B Q A K"]:
    """Select rows of each sample.

    Args:
        states: Queries of S columns, (B, Q, S, K).
        columns: Column of each row to select, (B, A).

    Returns:
        The rows, (B, Q, A, K).
    """
    # (B, A) -> (B, Q, A, K): the same columns for every head and channel.
    index = columns[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
    return states.gather(2, index)
