"""Latent passes: Jacobi iteration over the latent slots, on the KV cache of the question.

A step is ``1 + T`` forward passes of the body: the packed one (question, teacher mode, the student's
placeholders), then T Jacobi passes over the M latent slots, the last of which also reads the student's prompt
and answer. After pass t slot t no longer changes, and what pass t < T would give for its last T - t slots
never reaches the answer. So pass t computes slots t ... M - T + t only: ``M - T + 1`` slots in each pass.
``T = M`` is the sequential recurrence, one slot per pass.

That is the layout ``shift``: the state of a slot becomes the input of the next slot. In the layout ``blocks``
it becomes that slot's own next input, ``h_t = f(E + h_{t-1} | question cache)`` with ``feedback = "add"``.
The packed pass gives ``h_0`` of all M slots, and each of the T passes computes all of them again.

Source: ``shift``: KaVa, https://arxiv.org/abs/2510.02312, section 3; PCCoT, https://arxiv.org/abs/2506.18582.
``blocks``: LOTUS, https://arxiv.org/abs/2606.31779, section 3. Differs: in ``shift``, the slots that cannot
change any more, or cannot reach the answer, are not computed; the result is the same.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.capture.attention import AttentionCall, Prefix
from kvdistill.capture.pieces import Piece
from kvdistill.capture.sequence import Sequence, attention_call
from kvdistill.latent.feedback import latent_inputs
from kvdistill.latent.layout import question_pieces, tail_pieces
from kvdistill.latent.slots import num_placeholders
from kvdistill.text import Padded, ReaderBatch

if TYPE_CHECKING:
    from kvdistill.latent.reasoner import LatentReasoner


@dataclass(frozen=True, slots=True)
class ForwardResult:
    """One forward pass of the body, with its captured keys and values."""

    sequence: Sequence
    call: AttentionCall
    last: Float[Tensor, "B S D"]
    """Hidden states after the last layer and its norm."""
    hidden: tuple[Tensor, ...] | None
    """Hidden states of every layer, embeddings first; None where they were not asked for."""


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
        """Append columns [start, stop) of a forward pass; ``states`` (B, n, D) made its slots."""
        new = columns_of(state.call, start, stop)
        prefix = {i: (self.prefix[i][0] + k, self.prefix[i][1] + v) for i, (k, v) in new.items()}
        positions = state.sequence.positions[:, start:stop]
        return PrefixCache(
            prefix,
            torch.cat((self.mask, state.sequence.mask[:, start:stop]), 1),
            torch.cat((self.positions, positions), 1),
            torch.cat((self.states, states), 1),
        )


def forward_pass(
    model: "LatentReasoner",
    sequence: Sequence,
    past: PrefixCache | None = None,
    inputs: Float[Tensor, "B W D"] | None = None,
    hidden_states: bool = False,
) -> ForwardResult:
    """One forward pass of the body over ``sequence``, on top of a prefix cache.

    Args:
        sequence: S columns of pieces.
        past: Cache of the prefix, keys rotated; None at the beginning of the text.
        inputs: (B, W, D), input embeddings in place of the first W tokens'; None embeds all tokens.
        hidden_states: Whether the hidden states of every layer are returned too.

    Returns:
        States (B, S, D) and captured keys and values per layer.
    """
    # The last token of an answer predicts nothing, so it is not an input.
    width = sequence.ids.shape[1] - (1 if sequence.pieces[-1].name == "answer" else 0)
    given = 0 if inputs is None else inputs.shape[1]
    embeds = model.embed(sequence.ids[:, given:width])
    if inputs is not None:
        inputs = inputs.to(embeds.dtype)
        embeds = inputs if given == width else torch.cat((inputs, embeds), dim=1)
    call = attention_call(sequence, width, past)
    output = model.body(
        inputs_embeds=embeds,
        attention_mask=call.visible,
        position_ids=call.query_positions,
        use_cache=False,
        output_hidden_states=hidden_states,
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


def encode_latents(model: "LatentReasoner", reader: ReaderBatch) -> PrefixCache:
    """Student mode up to its last latent slot.

    Args:
        model: The student.
        reader: What student mode reads of B samples.

    Returns:
        Cache of question, cue, ``<bot>`` and M slots (keys rotated), and the slots' states (B, M, D).
    """
    return _encode(model, reader, ())[0]


def encode_to_answer(
    model: "LatentReasoner", reader: ReaderBatch
) -> tuple[PrefixCache, Float[Tensor, "B D"]]:
    """Student mode up to the end of the answer prompt, which the last pass over the slots reads too.

    Args:
        model: The student.
        reader: What student mode reads of B samples, padded on the left.

    Returns:
        Cache of question, slots, ``<eot>`` and answer prompt, and the state of the distillation token, which
        predicts the first token of the answer.
    """
    prompt = tail_pieces(reader, model.special)[:-1]
    past, last = _encode(model, reader, prompt)
    return past, last.last[:, -1]


def _encode(
    model: "LatentReasoner", reader: ReaderBatch, tail: tuple[Piece, ...]
) -> tuple[PrefixCache, ForwardResult]:
    """Cache of question, slots and ``tail``, and the pass that read the last slot and the tail."""
    config = model.config
    placeholders = num_placeholders(config.slots, config.passes, config.layout)
    pieces = question_pieces(reader, model.special, placeholders)
    if config.passes == 0:
        pieces += tail
    packed = forward_pass(model, Sequence(pieces, offset=no_offset(reader.question)))
    past = past_of_question(packed)
    if config.passes == 0:
        start, stop = packed.sequence.span("latents", "student")
        width = packed.last.shape[1]
        return past.then(packed, start, width, packed.last[:, start:stop]), packed
    thought = run_latent_passes(model, packed, past, tail, config.passes)
    width = thought.last.last.shape[1]
    return thought.before.then(thought.last, 0, width, thought.fed), thought.last


@dataclass(frozen=True, slots=True)
class LatentPasses:
    """The last of the T passes, the hidden states that it was computed from, and the cache before it.

    Shapes: W is M - T + 1 slots, or M in the layout ``blocks``.
    """

    last: ForwardResult
    fed: Float[Tensor, "B W D"]
    before: PrefixCache


def run_latent_passes(
    model: "LatentReasoner",
    packed: ForwardResult,
    past: PrefixCache,
    tail: tuple[Piece, ...],
    passes: int,
) -> LatentPasses:
    """T passes over M - T + 1 slots each (``blocks``: over all M); the last also reads ``tail``.

    Args:
        packed: The packed forward pass, which read the placeholders.
        past: Cache of question, cue and ``<bot>``.
        tail: Pieces after the slots; none where they are read later.
        passes: T, at least 1.
    """
    start, stop = packed.sequence.span("latents", "student")
    shifted = model.config.layout == "shift"
    if shifted:  # pass 1: the state of <bot> is the input of slot 1, a placeholder's that of the next slot
        start = start - 1
    states = packed.last[:, start:stop]  # B W D, where W is M - T + 1, or M in blocks
    ids = torch.full(states.shape[:2], model.special.latent, dtype=torch.long, device=states.device)
    latents = Piece("latents", "student", ids, torch.ones_like(ids, dtype=torch.bool))
    sequence = Sequence((latents,), offset=past.mask.sum(-1))
    for _ in range(passes - 1):
        state = forward_pass(model, sequence, past, latent_inputs(model, states))
        if shifted:
            past = past.then(state, 0, 1, states[:, :1])  # the first slot of the pass is final
            sequence = sequence.moved(1)
        states = state.last  # shift: the window moves on by one slot
    if tail:
        sequence = Sequence((latents, *tail), sequence.offset)
    # Only the pass that reads the answer prompt has a distillation token.
    last = forward_pass(model, sequence, past, latent_inputs(model, states), hidden_states=bool(tail))
    return LatentPasses(last, states, past)


def past_of_question(packed: ForwardResult) -> PrefixCache:
    """Prefix cache of question, cue and ``<bot>`` (P tokens), as views of the packed forward pass."""
    stop = packed.sequence.span("bot", "student")[1]
    return PrefixCache(
        columns_of(packed.call, 0, stop),
        packed.sequence.mask[:, :stop],
        packed.sequence.positions[:, :stop],
        packed.last[:, :0],
    )


def columns_of(call: AttentionCall, start: int, stop: int) -> Prefix:
    """Captured keys and values of some columns.

    Args:
        call: A finished forward pass over S columns.
        start: First column.
        stop: Column after the last.

    Returns:
        Layer id -> keys (B, H, n, K) and values (B, H, n, V), as views, rotated.
    """
    return {
        i: ([seen.keys[:, :, start:stop]], [seen.values[:, :, start:stop]]) for i, seen in call.seen.items()
    }


def no_offset(question: Padded) -> Int[Tensor, " B"]:
    """Offset 0 of each sample: a sequence that begins with the question.

    Args:
        question: B questions.

    Returns:
        (B), zeros.
    """
    return torch.zeros_like(question.lengths)
