"""Answers with given latent slots: a cache of M slots in the place of the student's own.

The student reads question, cue and ``<bot>``, then the given slots instead of its latent passes, then
``<eot>``, the answer prompt and its answer, as in student mode. Slot j has the position of latent slot j, and
what follows the slots has the position after slot M, whether slots are masked or not.

Every pass is a captured one, as in training: the same masks and positions hold for padding on either side,
masked slots, sliding windows, and backbones whose generation cache differs from what their attention reads.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from kvdistill.capture.attention import Prefix
from kvdistill.capture.pieces import Piece
from kvdistill.capture.sequence import Sequence
from kvdistill.kv import Geometry, LabelRows, ModelKV, require_unrotated
from kvdistill.latent.decode import end_tokens
from kvdistill.latent.layout import question_pieces, tail_pieces
from kvdistill.latent.modes import label_rows
from kvdistill.latent.passes import ForwardResult, PrefixCache, forward_pass, no_offset, past_of_question
from kvdistill.ops import rotate
from kvdistill.text import Batch, ReaderBatch

if TYPE_CHECKING:
    from kvdistill.latent.reasoner import LatentReasoner


@dataclass(frozen=True, slots=True)
class SlotAnswers:
    """What a student answers behind given slots."""

    ids: Int[Tensor, "B A"]
    """Greedy answers, padded after their end."""
    rows: LabelRows
    """The rows that predict the right answer, which is read behind the same slots."""


@torch.no_grad()
def answer_with_slots(
    model: "LatentReasoner", batch: Batch, slots: ModelKV, max_new_tokens: int
) -> SlotAnswers:
    """Answers of a student whose latent cache is replaced.

    Args:
        model: A student in evaluation mode.
        batch: B questions with their right answers, padded on either side.
        slots: Un-rotated cache of M slots per sample, in the geometry of the student. Masked slots are not
            attended.
        max_new_tokens: Upper limit of A, at least 1.

    Returns:
        Greedy answers (B, A), and the rows (R) that predict the right answers.

    Raises:
        ValueError: as ``cache_with_slots`` does.
        BeyondLimitError: if a text with its answer is longer than the model reads.

    Source: ours.
    """
    past = cache_with_slots(model, batch.student_mode, slots)
    state = _read_tail(model, batch.student_mode, past)
    tail = state.sequence
    # No earlier column sees the right answer: the same pass predicts the first token of the greedy one.
    start = tail.span("answer", "student")[0]
    sample = torch.arange(len(batch), device=tail.ids.device)
    first = model.head(state.last[sample, tail.distillation("student")]).argmax(-1)  # (B, C) -> (B,)
    past = past.then(state, 0, start, past.states[:, :0])
    position = tail.offset + tail.mask[:, :start].sum(-1)
    ids = _continue(model, batch.student_mode, past, (first, position), max_new_tokens)
    return SlotAnswers(ids, label_rows(model, state, "student"))


def rows_behind_slots(model: "LatentReasoner", batch: Batch, slots: ModelKV) -> LabelRows:
    """The rows that predict the right answers of a student whose latent cache is replaced.

    The logits depend on the slots, and on the student's weights behind them, in the autograd graph; the pass
    over the question does not.

    Args:
        model: A student in evaluation mode.
        batch: B questions with their right answers, padded on either side.
        slots: Un-rotated cache of M slots per sample, in the geometry of the student.

    Returns:
        The rows (R) of the answer and of what student mode predicts before it.

    Raises:
        ValueError: as ``cache_with_slots`` does.
        BeyondLimitError: if a text with its answer is longer than the model reads.

    Source: ours.
    """
    past = cache_with_slots(model, batch.student_mode, slots)
    return label_rows(model, _read_tail(model, batch.student_mode, past), "student")


def cache_with_slots(model: "LatentReasoner", reader: ReaderBatch, slots: ModelKV) -> PrefixCache:
    """The student's cache of question, cue and ``<bot>``, followed by given slots.

    The given slots stay in the autograd graph; the question is read without gradient. Keys are rotated to the
    positions of the student's latent slots. Layers whose keys are not rotated (NoPE)
    take them as they are; with learned positions, keys and values still hold those of the text that they were
    captured from.

    Args:
        model: The student.
        reader: What student mode reads of B samples, padded on either side.
        slots: Un-rotated cache of M slots per sample, in the geometry of the student.

    Returns:
        Cache of P tokens and M slots, keys rotated.

    Raises:
        ValueError: if the slots are rotated, are not M, have other layers, heads or widths than the student,
            or are masked in some heads or layers only.
    """
    geometry = model.geometry()
    _require_fit(slots, geometry, model.config.slots)
    pieces = question_pieces(reader, model.special, 0)
    question = Sequence(pieces, no_offset(reader.question))
    with torch.no_grad():
        past = past_of_question(forward_pass(model, question))
    # (B, M): the positions of the latent slots, masked ones included.
    index = torch.arange(model.config.slots, device=past.positions.device)
    positions = past.mask.sum(-1, keepdim=True) + index
    # Read again: frequencies may depend on the length of the text.
    geometry = model.geometry()
    prefix: Prefix = {}
    for layer_id, layer in zip(slots.layer_ids, slots.layers, strict=True):
        read_keys, read_values = past.prefix[layer_id]
        # Zeros in masked slots, (B, H, M, 1): a weight of 0 would keep a NaN.
        empty = ~layer.mask[..., None]
        keys, values = layer.keys.masked_fill(empty, 0.0), layer.values.masked_fill(empty, 0.0)
        keys, rope = keys.to(positions.device), geometry.layer(layer_id).rope
        if rope is not None:
            keys = rotate(keys, positions[:, None], rope)
        # Targets may be in float32 or elsewhere; the prefix has the model's dtype and device.
        keys, values = keys.to(read_keys[0]), values.to(read_values[0])
        prefix[layer_id] = ([*read_keys, keys], [*read_values, values])
    mask = slots.layers[0].mask[:, 0].to(past.mask)
    return PrefixCache(
        prefix, torch.cat((past.mask, mask), 1), torch.cat((past.positions, positions), 1), past.states
    )


def _read_tail(model: "LatentReasoner", reader: ReaderBatch, past: PrefixCache) -> ForwardResult:
    """The pass over what follows the slots: ``<eot>``, answer prompt and answer."""
    # The position after slot M, also where the last slots are masked.
    tail = Sequence(tail_pieces(reader, model.special), past.positions[:, -1] + 1)
    return forward_pass(model, tail, past)


def _continue(
    model: "LatentReasoner",
    reader: ReaderBatch,
    past: PrefixCache,
    first: tuple[Int[Tensor, " B"], Int[Tensor, " B"]],
    max_new_tokens: int,
) -> Int[Tensor, "B A"]:
    """Greedy answers (B, A); ``first`` is the first token of each answer with its position."""
    options = end_tokens(model, reader)
    token, position = first
    ends = torch.tensor(options["eos_token_id"], device=token.device)
    padding = int(options["pad_token_id"] or 0)
    answers, ended = [token], torch.isin(token, ends)
    while len(answers) < max_new_tokens and not ended.all():
        # An answer that has ended is padding from here on: it takes no position that could exceed a limit.
        column = Piece("token", "student", token[:, None], ~ended[:, None])
        state = forward_pass(model, Sequence((column,), position), past)
        past = past.then(state, 0, 1, past.states[:, :0])
        position = position + (~ended).long()
        token = model.head(state.last[:, 0]).argmax(-1).masked_fill(ended, padding)
        answers.append(token)
        ended = ended | torch.isin(token, ends)
    return torch.stack(answers, 1)


def _require_fit(slots: ModelKV, geometry: Geometry, num_slots: int) -> None:
    """Refuse a cache that cannot be read in the place of the student's own latent slots."""
    require_unrotated(slots, "given slots")
    if slots.layer_ids != geometry.layer_ids:
        raise ValueError(
            f"{slots.source} holds layers {slots.layer_ids}, but the student has {geometry.layer_ids}: give "
            "a cache in the student's geometry (of a teacher: after alignment)."
        )
    for layer_id, layer in zip(slots.layer_ids, slots.layers, strict=True):
        own = geometry.layer(layer_id)
        wanted = (own.heads, num_slots, own.key_width, own.value_width)
        found = (*layer.keys.shape[1:], layer.values.shape[-1])
        if found != wanted:
            raise ValueError(
                f"Layer {layer_id} of {slots.source} has (heads, slots, key width, value width) {found}, but "
                f"the student has {wanted}: compress the cache to {num_slots} slots, and align one of a "
                "teacher."
            )
        if not torch.equal(layer.mask, slots.layers[0].mask[:, :1].expand_as(layer.mask)):
            raise ValueError(
                f"Heads or layers of {slots.source} have unlike masked slots, and a slot is read by all or "
                "none: choose fewer slots than the shortest text has tokens."
            )
