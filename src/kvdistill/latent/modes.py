"""Forward passes of teacher mode and student mode, packed so that the question is computed once."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvdistill.capture.attention import Prefix, within_window
from kvdistill.capture.extract import Columns, extract, gather_rows, unrotated_layers
from kvdistill.capture.importance import answer_attention
from kvdistill.capture.pieces import teacher_pieces
from kvdistill.capture.sequence import Sequence, explicit
from kvdistill.kv import LabelRows, LayerKV, ModelKV, ModelOutput, SlotStates, TwoModes, full_mask
from kvdistill.latent.layout import cot_delimiters, question_pieces, tail_pieces
from kvdistill.latent.passes import (
    ForwardResult,
    LatentPasses,
    PrefixCache,
    columns_of,
    forward_pass,
    no_offset,
    past_of_question,
    run_latent_passes,
)
from kvdistill.latent.question import question_of
from kvdistill.latent.slots import num_placeholders
from kvdistill.text import Batch, QuestionRead

if TYPE_CHECKING:
    from kvdistill.latent.reasoner import LatentReasoner


def two_modes(
    model: "LatentReasoner",
    batch: Batch,
    measure_attention: bool = False,
    read_slots: bool = False,
    passes: int | None = None,
    question_read: QuestionRead | None = None,
) -> TwoModes:
    """Teacher mode and student mode on one batch.

    Args:
        batch: B samples with chains of thought of N tokens.
        measure_attention: Whether student mode also returns the answer's attention to the slots.
        read_slots: Whether student mode also returns the slots' states and what the head reads in them.
        passes: T in place of the student's own number of passes, for a curriculum.
        question_read: Which keys are returned as the question's vector; None returns none.

    Returns:
        Caches over N tokens (teacher, detached) and M slots (student, in the graph), logits, hidden states.
    """
    config, special = model.config, model.special
    passes = config.passes if passes is None else passes
    placeholders = num_placeholders(config.slots, passes, config.layout)  # their states are inputs of pass 1
    tail = tail_pieces(batch.student_mode, special)
    student_part = question_pieces(batch.student_mode, special, placeholders)
    if passes == 0:  # no later pass reads the tail
        student_part += tail
    teacher_part = teacher_pieces(batch.teacher_mode, cot_delimiters(config.delimiters, special))
    sequence = Sequence(student_part + teacher_part, no_offset(batch.student_mode.question))
    packed = forward_pass(model, sequence, hidden_states=True)
    teacher = teacher_output(model, packed, batch)
    past = past_of_question(packed)
    start, stop = packed.sequence.span("latents", "student")
    if passes == 0:
        latents = columns_of(packed.call, start, stop)
        student = student_output(model, packed, past, latents, measure_attention)
        hidden = packed.last[:, start - 1 : stop]
    else:
        thought = run_latent_passes(model, packed, past, tail, passes)
        # In shift, slots T ... M; earlier ones are in ``before``.
        latents = columns_of(thought.last.call, 0, thought.fed.shape[1])
        student = student_output(model, thought.last, thought.before, latents, measure_attention)
        hidden = last_states(thought, packed.last[:, start - 1 : start])
    if read_slots:
        logits = model.head(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2])
        student = replace(student, slots=SlotStates(hidden, logits))
    question = None
    if question_read is not None:
        question = question_of(packed.sequence, packed.call, model.geometry(), question_read)
    return TwoModes(teacher, student, question)


def last_states(thought: LatentPasses, bot: Float[Tensor, "B 1 D"]) -> Float[Tensor, "B m D"]:
    """Last hidden state of ``<bot>`` and of each slot, from the pass that computed it last.

    Args:
        thought: The last pass over W slots, and the cache before it.
        bot: State of ``<bot>``.

    Returns:
        (B, M + 1, D).
    """
    # In shift, the state fed to a slot that an earlier pass made final is the last one of the slot before it.
    fed = torch.cat((thought.before.states, thought.fed[:, :1]), 1)[:, 1:]  # none in blocks
    return torch.cat((bot, fed, thought.last.last[:, : thought.fed.shape[1]]), 1)


def teacher_forward(model: "LatentReasoner", batch: Batch) -> ModelOutput:
    """Teacher mode alone: explicit reasoning, or direct answers where chains of thought are empty.

    Returns:
        Cache over the N tokens of the chain of thought, label rows, hidden states (B, L, D).
    """
    sequence = explicit(batch.teacher_mode, cot_delimiters(model.config.delimiters, model.special))
    return teacher_output(model, forward_pass(model, sequence, hidden_states=True), batch)


def teacher_output(model: "LatentReasoner", packed: ForwardResult, batch: Batch) -> ModelOutput:
    """Teacher mode's cache over N tokens (un-rotated, detached), label rows, hidden states (B, L, D)."""
    sequence = packed.sequence
    start, stop = sequence.span("cot", "teacher")
    read = batch.teacher_mode
    cot = Columns(start, stop, read.cot.mask, sequence.positions[:, start:stop], read.step_end)
    kv = extract(packed.call, model.geometry(), cot, sequence.answer_rows("teacher"), "teacher mode")
    return ModelOutput(kv, label_rows(model, packed, "teacher"), _distilled(packed, "teacher"))


def student_output(
    model: "LatentReasoner",
    last: ForwardResult,
    past: PrefixCache,
    latents: Prefix,
    measure_attention: bool = False,
) -> ModelOutput:
    """Student mode's cache of all M slots (un-rotated, in the graph), label rows, hidden states (B, L, D).

    Args:
        last: The forward pass that read the answer and the last n slots.
        past: Cache of the prefix, which ends with the M - n slots that earlier passes made final.
        latents: Keys (B, H, n, K) and values (B, H, n, V) of the slots in ``last``, by layer.
    """
    slots, geometry = model.config.slots, model.geometry()
    start, stop = last.sequence.span("latents", "student")
    done = slots - (stop - start)  # slots that earlier passes made final
    positions = torch.cat(
        (past.positions[:, past.positions.shape[1] - done :], last.sequence.positions[:, start:stop]), 1
    )
    ids, rotated, values, attention = tuple(sorted(latents)), [], [], []
    for layer_id in ids:
        before, (own_keys, own_values) = past.prefix[layer_id], latents[layer_id]
        rotated.append(torch.cat((*_last(before[0], done), *own_keys), 2))  # B H M K
        values.append(torch.cat((*_last(before[1], done), *own_values), 2))
        if measure_attention:
            attention.append(_latent_attention(last, layer_id, rotated[-1], positions))
    keys = unrotated_layers(rotated, positions, [geometry.layer(layer_id).rope for layer_id in ids])
    time = torch.arange(slots, device=positions.device)
    layers = (
        LayerKV(keys=k, values=v, mask=full_mask(k), positions=time.expand(k.shape[:3]))
        for k, v in zip(keys, values, strict=True)
    )
    kv = ModelKV(tuple(layers), ids, "student mode")
    return ModelOutput(
        kv, label_rows(model, last, "student"), _distilled(last, "student"), tuple(attention) or None
    )


def _latent_attention(
    last: ForwardResult, layer_id: int, keys: Float[Tensor, "B H M K"], positions: Int[Tensor, "B M"]
) -> Float[Tensor, "B H M"]:
    rows = last.sequence.answer_rows("student")  # A rows
    seen = last.call.seen[layer_id]
    visible = rows.mask[:, None, :, None].expand(-1, -1, -1, keys.shape[2])
    visible = within_window(visible, rows.positions, positions, seen.window)[:, 0]
    weights = answer_attention(seen, gather_rows(seen.query, rows.columns), keys, visible)
    # Where a sliding window hides all slots, the attention is defined as even.
    return torch.where(visible.any((1, 2))[:, None, None], weights, 1 / keys.shape[2])


def label_rows(model: "LatentReasoner", state: ForwardResult, reader: str) -> LabelRows:
    """The rows of a forward pass that predict a label.

    Args:
        model: The student.
        state: A forward pass over a sequence with labels.
        reader: ``teacher`` or ``student``.

    Returns:
        R rows with their logits and labels.
    """
    targets = state.sequence.targets(reader)  # pyright: ignore[reportArgumentType]
    logits = model.head(state.last[targets.sample, targets.column])  # R C: not on every column
    return LabelRows(logits, targets.label, targets.sample, targets.is_answer)


def _distilled(state: ForwardResult, reader: str) -> Float[Tensor, "B L D"]:
    assert state.hidden is not None
    column = state.sequence.distillation(reader)  # pyright: ignore[reportArgumentType]
    sample = torch.arange(len(column), device=column.device)
    return torch.stack([layer[sample, column] for layer in state.hidden], dim=1)


def _last(pieces: list[Tensor], count: int) -> list[Tensor]:
    """The last ``count`` pieces of a prefix, each of one slot."""
    return pieces[len(pieces) - count :]
