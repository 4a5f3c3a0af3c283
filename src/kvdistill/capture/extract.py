"""Extraction of un-rotated KV caches from the captured attention layers of one forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.capture.call import AttentionCall, CapturedAttention, within_window
from kvdistill.capture.importance import answer_attention
from kvdistill.kv import Geometry, LayerGeometry, LayerKV, ModelKV, Rope
from kvdistill.layer_batch import alike, joined, unstack
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

    def repeat(self, number: int) -> "Columns":
        """The same columns of every sample ``number`` times, for layers that are stacked.

        Args:
            number: L.

        Returns:
            Columns of L B samples.
        """
        step_end = self.step_end
        if step_end is not None:
            step_end = step_end.repeat(number, 1)
        mask, positions = self.mask.repeat(number, 1), self.positions.repeat(number, 1)
        return replace(self, mask=mask, positions=positions, step_end=step_end)


@dataclass(frozen=True, slots=True)
class AnswerRows:
    """The rows of a sequence whose next token is a token of the answer."""

    columns: Int[Tensor, "B A"]
    """Column of each row in the sequence."""
    mask: Bool[Tensor, "B A"]
    """False where the answer is padded."""
    positions: Int[Tensor, "B A"]
    """Position id of each row."""

    def repeat(self, number: int) -> "AnswerRows":
        """The same rows of every sample ``number`` times, for layers that are stacked.

        Args:
            number: L.

        Returns:
            Rows of L B samples.
        """
        return AnswerRows(*(x.repeat(number, 1) for x in (self.columns, self.mask, self.positions)))


def unrotated(
    keys: Float[Tensor, "B H T K"], positions: Int[Tensor, "B T"], rope: Rope | None
) -> Float[Tensor, "B H T K"]:
    """Remove a layer's rotation from keys.

    Args:
        keys: Captured keys, (B, H, T, K).
        positions: Position ids that the model was given, (B, T).
        rope: The layer's rotation; keys are returned as they are without one.

    Returns:
        Keys before the rotation, (B, H, T, K).
    """
    if rope is None:
        return keys
    return rotate(keys, positions[:, None], rope, inverse=True)


def unrotated_layers(
    keys: Sequence[Float[Tensor, "B _ T _"]], positions: Int[Tensor, "B T"], ropes: Sequence[Rope | None]
) -> list[Float[Tensor, "B _ T _"]]:
    """Remove the rotation from the keys of several layers, at once where they share it.

    Args:
        keys: Captured keys of each layer, (B, H, T, K).
        positions: Position ids that the model was given, (B, T).
        ropes: The rotation of each layer.

    Returns:
        Keys before the rotation, by layer.
    """
    if not _one_rotation(ropes) or not alike([[each] for each in keys]):
        return [unrotated(*each) for each in zip(keys, [positions] * len(keys), ropes, strict=True)]
    return list(unrotated(torch.cat(list(keys)), positions.repeat(len(keys), 1), ropes[0]).chunk(len(keys)))


def _one_rotation(ropes: Sequence[Rope | None]) -> bool:
    """Whether layers share one rotation with the same frequencies for all samples."""
    first = ropes[0]
    return all(rope is first for rope in ropes) and (first is None or first.inv_freq.ndim == 1)


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
    ids = tuple(sorted(call.seen))
    parts = [_part(call.seen[layer_id], geometry.layer(layer_id), text, rows) for layer_id in ids]
    if _alike(parts):
        number = len(parts)
        if rows is not None:
            rows = rows.repeat(number)
        layers = unstack(_layer(_stacked(parts), text.repeat(number), rows), number)
    else:
        layers = tuple(_layer(part, text, rows) for part in parts)
    return ModelKV(layers, ids, source)


@dataclass(frozen=True, slots=True)
class _Part:
    """The columns of a text in one captured layer, or in several, stacked along the batch."""

    seen: CapturedAttention
    """For its scaling, soft-cap and window."""
    keys: Float[Tensor, "B H T K"]
    values: Float[Tensor, "B H T V"]
    query: Float[Tensor, "B Q A K"] | None
    """Queries of the rows; None without rows."""
    rope: Rope | None

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys, values and queries."""
        return self.keys, self.values, self.query


def _part(seen: CapturedAttention, layer: LayerGeometry, text: Columns, rows: AnswerRows | None) -> _Part:
    # A target takes no gradient; the slices are views until they are un-rotated. Only they leave the device
    # of a layer that is not on the device of the text.
    keys, values = (
        states[:, :, text.start : text.stop].detach().to(text.mask.device)
        for states in (seen.keys, seen.values)
    )
    query = None
    if rows is not None:
        query = gather_rows(seen.query.detach(), rows.columns.to(seen.query.device)).to(keys.device)
    return _Part(seen, keys, values, query, layer.rope)


def _alike(parts: Sequence[_Part]) -> bool:
    """Whether layers can be stacked: alike in their tensors, with one rotation and one kind of attention."""
    attention = {(part.seen.scaling, part.seen.softcap, part.seen.window) for part in parts}
    one_kind = len(attention) == 1 and _one_rotation([part.rope for part in parts])
    return one_kind and alike([part.tensors for part in parts])


def _stacked(parts: Sequence[_Part]) -> _Part:
    keys, values, query = joined([part.tensors for part in parts])
    assert keys is not None and values is not None
    return replace(parts[0], keys=keys, values=values, query=query)


def _layer(part: _Part, text: Columns, rows: AnswerRows | None) -> LayerKV:
    wide = part.keys.shape[:3]  # (B, H, T): heads start alike, compressors may then keep different tokens
    importance, step_end = None, None
    if rows is not None and part.query is not None:
        importance = _importance(part.seen, part.query, part.keys, text, rows)
    if text.step_end is not None:
        step_end = text.step_end[:, None].expand(wide)
    return LayerKV(
        keys=unrotated(part.keys, text.positions, part.rope),
        values=part.values,
        mask=text.mask[:, None].expand(wide),
        positions=text_order(text.mask)[:, None].expand(wide),
        importance=importance,
        step_end=step_end,
    )


@torch.no_grad()
def _importance(
    seen: CapturedAttention, query: Tensor, keys: Tensor, text: Columns, rows: AnswerRows
) -> Float[Tensor, "B H T"]:
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
