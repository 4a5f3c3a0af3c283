"""Forward passes of teacher mode and student mode, packed so that the question is computed once.

A step is ``1 + T`` forward passes of the body: the packed one (question, teacher mode, the student's
placeholders), then T Jacobi passes over the M latent slots, the last of which also reads the student's prompt
and answer. After pass t slot t no longer changes, and what pass t < T would give for its last T - t slots
never reaches the answer. So pass t computes slots t ... M - T + t only: ``M - T + 1`` slots in each pass.
``T = M`` is the sequential recurrence, one slot per pass.

Source: KaVa, https://arxiv.org/abs/2510.02312, section 3; PCCoT, https://arxiv.org/abs/2506.18582. Differs:
the slots that cannot change any more, or cannot reach the answer, are not computed; the result is the same.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.capture.attention import AttentionCall, Prefix, within_window
from kvdistill.capture.extract import Columns, extract, gather_rows, unrotated
from kvdistill.capture.importance import answer_attention
from kvdistill.capture.sequence import Piece, Sequence, attention_call, explicit, teacher_pieces
from kvdistill.kv import LabelRows, LayerKV, ModelKV, ModelOutput, TwoModes
from kvdistill.latent.layout import cot_delimiters, question_pieces, tail_pieces
from kvdistill.text import Batch

if TYPE_CHECKING:
    from kvdistill.latent.reasoner import LatentReasoner


@dataclass(frozen=True, slots=True)
class ForwardResult:
    """One forward pass of the body, with its captured keys and values."""

    sequence: Sequence
    call: AttentionCall
    last: Float[Tensor, "B S D"]
    """Hidden states after the last layer and its norm."""
    hidden: tuple[Tensor, ...]
    """Hidden states of every layer, embeddings first."""


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """KV cache of what the student has read so far: question (P tokens) and n final slots, in pieces."""

    prefix: Prefix
    mask: Bool[Tensor, "B P"]
    positions: Int[Tensor, "B P"]
    states: Float[Tensor, "B n D"]
    """Hidden state that each slot's input was computed from; with T = 0 the slot's own last state."""

    def then(
        self, state: "ForwardResult", start: int, stop: int, states: Float[Tensor, "B n D"]
    ) -> "PrefixCache":
        """Append the slots in columns [start, stop) of a forward pass, computed from ``states`` (B, n, D)."""
        new = _slice(state.call, start, stop)
        prefix = {i: (self.prefix[i][0] + k, self.prefix[i][1] + v) for i, (k, v) in new.items()}
        positions = state.sequence.positions()[:, start:stop]
        mask = torch.ones_like(positions, dtype=torch.bool)
        return PrefixCache(
            prefix,
            torch.cat((self.mask, mask), 1),
            torch.cat((self.positions, positions), 1),
            torch.cat((self.states, states), 1),
        )


def forward_pass(
    model: "LatentReasoner",
    sequence: Sequence,
    past: PrefixCache | None,
    inputs: Float[Tensor, "B W D"] | None,
) -> ForwardResult:
    """One forward pass of the body over ``sequence``, on top of a prefix cache.

    Args:
        sequence: S columns of pieces.
        past: Cache of the prefix, keys rotated; None at the beginning of the text.
        inputs: (B, W, D), input embeddings in place of the first W tokens'; None embeds all tokens.

    Returns:
        States (B, S, D) and captured keys and values per layer.
    """
    # The last token of an answer predicts nothing, so it is not an input.
    width = sequence.ids.shape[1] - (1 if sequence.pieces[-1].name == "answer" else 0)
    ids = sequence.ids[:, :width]
    embeds = model.embed(ids if inputs is None else ids[:, inputs.shape[1] :])
    if inputs is not None:
        embeds = torch.cat((inputs.to(embeds.dtype), embeds), dim=1)
    call = attention_call(sequence, width, past)
    output = model.body(
        inputs_embeds=embeds,
        attention_mask=call.visible,
        position_ids=call.query_positions,
        use_cache=False,
        output_hidden_states=True,
        kv_call=call,
    )
    call.closed = True
    if output.last_hidden_state.requires_grad and not any(
        seen.values.requires_grad for seen in call.seen.values()
    ):
        raise ValueError(
            "Reentrant gradient checkpointing hides the gradients of keys and values: set "
            "gradient_checkpointing_kwargs to "
            "{'use_reentrant': False}."
        )
    return ForwardResult(sequence, call, output.last_hidden_state, output.hidden_states)


def two_modes(model: "LatentReasoner", batch: Batch, measure_attention: bool = False) -> TwoModes:
    """Teacher mode and student mode on one batch.

    Args:
        batch: B samples with chains of thought of N tokens.
        measure_attention: Whether student mode also returns the answer's attention to the slots.

    Returns:
        Caches over N tokens (teacher, detached) and M slots (student, in the graph), logits, hidden states.
    """
    config, special = model.config, model.special
    placeholders = config.slots - config.passes  # their states are inputs of pass 1
    tail = tail_pieces(batch, special) if config.passes == 0 else ()
    teacher_part = teacher_pieces(batch, cot_delimiters(config.delimiters, special))
    pieces = question_pieces(batch, special, placeholders) + tail + teacher_part
    packed = forward_pass(model, Sequence(pieces, offset=_zero(batch)), None, None)
    teacher = teacher_output(model, packed, batch)
    past = past_of_question(packed)
    if config.passes == 0:
        start, stop = packed.sequence.span("latents", "student")
        latents = _slice(packed.call, start, stop)
        return TwoModes(teacher, student_output(model, packed, past, latents, measure_attention))
    thought = run_latent_passes(model, packed, past, tail_pieces(batch, special))
    latents = _slice(thought.last.call, 0, placeholders + 1)  # slots T ... M; earlier ones are in `before`
    student = student_output(model, thought.last, thought.before, latents, measure_attention)
    return TwoModes(teacher, student)


def teacher_forward(model: "LatentReasoner", batch: Batch) -> ModelOutput:
    """Teacher mode alone: explicit reasoning, or direct answers where chains of thought are empty.

    Returns:
        Cache over the N tokens of the chain of thought, label rows, hidden states (B, L, D).
    """
    sequence = explicit(batch, cot_delimiters(model.config.delimiters, model.special))
    return teacher_output(model, forward_pass(model, sequence, None, None), batch)


def encode_latents(model: "LatentReasoner", batch: Batch) -> PrefixCache:
    """Student mode up to its last latent slot.

    Returns:
        Cache of question, cue, ``<bot>`` and M slots (keys rotated), and the slots' states (B, M, D).
    """
    config = model.config
    pieces = question_pieces(batch, model.special, config.slots - config.passes)
    packed = forward_pass(model, Sequence(pieces, offset=_zero(batch)), None, None)
    past = past_of_question(packed)
    if config.passes == 0:
        start, stop = packed.sequence.span("latents", "student")
        return past.then(packed, start, stop, packed.last[:, start:stop])
    return run_latent_passes(model, packed, past, ()).all


@dataclass(frozen=True, slots=True)
class LatentPasses:
    """The last of the T passes, the hidden states that it was computed from, and the cache before it."""

    last: ForwardResult
    fed: Float[Tensor, "B W D"]
    before: PrefixCache

    @property
    def all(self) -> PrefixCache:
        """Cache of the question and all M latent slots."""
        return self.before.then(self.last, 0, self.fed.shape[1], self.fed)


def run_latent_passes(
    model: "LatentReasoner", packed: ForwardResult, past: PrefixCache, tail: tuple[Piece, ...]
) -> LatentPasses:
    """T Jacobi passes over M - T + 1 slots each, from ``packed``'s states; the last also reads ``tail``."""
    start, stop = packed.sequence.span("latents", "student")
    # Pass 1: the state of <bot> becomes the input of slot 1, each placeholder's state that of the next slot.
    states = packed.last[:, start - 1 : stop]  # B (M - T + 1) D
    ids = torch.full(states.shape[:2], model.special.latent, dtype=torch.long, device=states.device)
    latents = Piece("latents", "student", ids, torch.ones_like(ids, dtype=torch.bool))
    for _ in range(model.config.passes - 1):
        state = forward_pass(
            model, Sequence((latents,), offset=past.mask.sum(-1)), past, model.feedback(states)
        )
        past = past.then(state, 0, 1, states[:, :1])  # the first slot of the pass is final
        states = state.last  # the window moves on by one slot
    last = forward_pass(
        model, Sequence((latents, *tail), offset=past.mask.sum(-1)), past, model.feedback(states)
    )
    return LatentPasses(last, states, past)


def past_of_question(packed: ForwardResult) -> PrefixCache:
    """Prefix cache of question, cue and ``<bot>`` (P tokens), as views of the packed forward pass."""
    stop = packed.sequence.span("bot", "student")[1]
    return PrefixCache(
        _slice(packed.call, 0, stop),
        packed.sequence.mask[:, :stop],
        packed.sequence.positions()[:, :stop],
        packed.last[:, :0],
    )


def teacher_output(model: "LatentReasoner", packed: ForwardResult, batch: Batch) -> ModelOutput:
    """Teacher mode's cache over N tokens (un-rotated, detached), label rows, hidden states (B, L, D)."""
    sequence = packed.sequence
    start, stop = sequence.span("cot", "teacher")
    cot = Columns(start, stop, batch.cot.mask, sequence.positions()[:, start:stop], batch.step_end)
    kv = extract(packed.call, model.geometry(), cot, sequence.answer_rows("teacher"), "teacher mode")
    return ModelOutput(kv, _label_rows(model, packed, "teacher"), _distilled(packed, "teacher"))


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
        (past.positions[:, past.positions.shape[1] - done :], last.sequence.positions()[:, start:stop]), 1
    )
    layers, attention = [], []
    for layer_id, (own_keys, own_values) in sorted(latents.items()):
        before = past.prefix[layer_id]
        keys = torch.cat((*_last(before[0], done), *own_keys), 2)  # B H M K
        values = torch.cat((*_last(before[1], done), *own_values), 2)
        wide = keys.shape[:3]
        layers.append(
            LayerKV(
                keys=unrotated(keys, positions, geometry.layer(layer_id)),
                values=values,
                mask=torch.ones(wide, dtype=torch.bool, device=keys.device),
                positions=torch.arange(slots, device=keys.device).expand(wide),
            )
        )
        if measure_attention:
            attention.append(_latent_attention(last, layer_id, keys, positions))
    kv = ModelKV(tuple(layers), tuple(sorted(latents)), "student mode")
    return ModelOutput(
        kv, _label_rows(model, last, "student"), _distilled(last, "student"), tuple(attention) or None
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


def _label_rows(model: "LatentReasoner", state: ForwardResult, reader: str) -> LabelRows:
    targets = state.sequence.targets(reader)  # pyright: ignore[reportArgumentType]
    logits = model.head(state.last[targets.sample, targets.column])  # R C: not on every column
    return LabelRows(logits, targets.label, targets.sample, targets.is_answer)


def _distilled(state: ForwardResult, reader: str) -> Float[Tensor, "B L D"]:
    column = state.sequence.distillation(reader)  # pyright: ignore[reportArgumentType]
    sample = torch.arange(len(column), device=column.device)
    return torch.stack([layer[sample, column] for layer in state.hidden], dim=1)


def _slice(call: AttentionCall, start: int, stop: int) -> Prefix:
    return {
        i: ([seen.keys[:, :, start:stop]], [seen.values[:, :, start:stop]]) for i, seen in call.seen.items()
    }


def _last(pieces: list[Tensor], count: int) -> list[Tensor]:
    """The last ``count`` pieces of a prefix, each of one slot."""
    return pieces[len(pieces) - count :]


def _zero(batch: Batch) -> Int[Tensor, " B"]:
    return torch.zeros(len(batch), dtype=torch.long, device=batch.question.ids.device)
