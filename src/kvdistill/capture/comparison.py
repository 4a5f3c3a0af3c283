"""Comparison of a captured call on padded, packed texts with plain calls of each text alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from kvdistill.capture.attention import (
    CHOOSE,
    MODEL_ERRORS,
    CaptureError,
    attention_backend,
    body_of,
    capture_attention,
)
from kvdistill.capture.cache import CacheSource, captured_cache, prefill_cache
from kvdistill.capture.call import AttentionCall, Prefix
from kvdistill.capture.pieces import Piece, Reader
from kvdistill.capture.random_texts import LATENTS, QUESTION
from kvdistill.capture.sequence import Sequence, attention_call

EXACT, ROUNDED, HALF = 1e-4, 2e-2, 0.25
"""Largest relative difference allowed in float32, in float32 with TF32 products, in half precision. Rounding
in deep models is well below each; an uncapturable architecture with trained weights is off by about 1."""
Head = Callable[[Tensor], Tensor]
"""Hidden states (R, D) -> logits (R, C)."""


@dataclass(frozen=True, slots=True)
class Plain:
    """One text of S tokens in a plain forward pass, without padding or packing."""

    hidden: Tensor
    """(S, D)"""
    keys: dict[int, Tensor]
    """Layer id -> (H, S, K)"""
    values: dict[int, Tensor]


class Comparison:
    """A model, the packed sequence that it is tested on, and plain calls of the texts in it."""

    def __init__(self, model: PreTrainedModel, sequence: Sequence, embedded: bool) -> None:
        """``embedded``: whether captured calls get embeddings, as a student's do, in place of token ids."""
        self.model, self.body, self.sequence, self.embedded = model, body_of(model), sequence, embedded
        self.tolerance = _tolerance(model.dtype)
        self.columns: dict[tuple[Reader, int], Tensor] = {}
        self.plain: dict[tuple[Reader, int], Plain] = {}
        for reader in ("teacher", "student"):
            for sample in range(len(sequence.ids)):
                own = sequence.columns(reader)
                self.columns[reader, sample] = own[sequence.mask[sample, own]]  # without padding
                self.plain[reader, sample] = self._alone(sequence.ids[sample, self.columns[reader, sample]])

    def _alone(self, ids: Tensor) -> Plain:
        """Plain call of one text, ids (S), with the model's own positions and mask."""
        with capture_attention(self.model) as call:
            # (S) -> (1, S): without padding, so mask and positions are left to the model.
            hidden = self.body(input_ids=ids[None], use_cache=False, kv_call=call).last_hidden_state[0]
        keys = {layer_id: seen.keys[0] for layer_id, seen in call.seen.items()}
        return Plain(hidden, keys, {layer_id: seen.values[0] for layer_id, seen in call.seen.items()})

    def position_offset(self, backend: str) -> int:
        """Position id of a text's first token: the one with which explicit position ids change nothing."""
        key = ("teacher", 1)  # the second text has no padding
        ids = self.sequence.ids[1, self.columns[key]][None]
        with attention_backend(self.model, backend):
            hidden = self.body(input_ids=ids, use_cache=False).last_hidden_state[0]
            self.require("its hidden states change under capture", [(self.plain[key].hidden, hidden)])
            # RoBERTa and its relatives start at padding id + 1.
            offsets = (0, 1 + (self.model.config.get_text_config().pad_token_id or 0))
            for offset in offsets:
                positions = torch.arange(ids.shape[1], device=ids.device)[None] + offset
                given = self.body(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state[0]
                if _difference(given, hidden) <= self.tolerance:
                    return offset
        raise CaptureError(
            f"{type(self.model).__name__} does not count positions from 0 or from its padding token + 1. "
            f"{CHOOSE}"
        )

    def packed_call(self, offset: int) -> AttentionCall:
        """Run both padded texts in one captured call, compare them with each text alone, return the call."""
        call = attention_call(self.sequence, self.sequence.ids.shape[1])
        hidden = self._call(call, self.sequence.ids, offset)  # (B, S, D)
        for (reader, sample), plain in self.plain.items():
            at = self.columns[reader, sample]
            self._compare("packed and padded", hidden[sample, at], call, sample, at, plain)
        return call

    def prefix_call(self, packed: AttentionCall) -> None:
        """Run the student's tokens again on top of the captured question, and compare."""
        latents = self.sequence.pieces[1]
        later = Sequence((latents,), offset=self.question.mask.sum(-1))
        call = attention_call(later, LATENTS, self.prefix_of(packed))
        hidden = self._call(call, latents.ids, 0)  # (B, LATENTS, D)
        for sample in range(len(hidden)):
            plain = self.plain["student", sample]
            tail = Plain(  # the latents are the last tokens that the student reads
                plain.hidden[-LATENTS:],
                {layer_id: keys[:, -LATENTS:] for layer_id, keys in plain.keys.items()},
                {layer_id: values[:, -LATENTS:] for layer_id, values in plain.values.items()},
            )
            at = torch.arange(LATENTS, device=hidden.device)
            self._compare("read on top of a captured prefix", hidden[sample], call, sample, at, tail)

    def free_embeddings(self) -> None:
        """Read embeddings of no token, as latent slots are; models that look up ids by embedding raise."""
        # Means of two embeddings: vectors that the embedding table does not hold.
        embeds = self.model.get_input_embeddings()(self.question.ids[1:])
        self.body(inputs_embeds=(embeds + embeds.flip(1)) / 2, use_cache=False)

    def head(self, head: Head) -> None:
        """Compare the student's head on the body's hidden states with the model's own logits (S, C)."""
        key = ("teacher", 1)  # the second text has no padding
        ids = self.sequence.ids[1, self.columns[key]][None]
        output = self.model(input_ids=ids, use_cache=False, output_hidden_states=True)
        # Of the embeddings and of every layer, each (1, S, D).
        shapes = {tuple(states.shape) for states in output.hidden_states}
        if shapes != {(1, ids.shape[1], self.plain[key].hidden.shape[-1])}:
            raise CaptureError(
                f"{type(self.model).__name__} does not keep one hidden state a token and layer (shapes "
                f"{sorted(shapes)}), which latent "
                f"slots are fed back from: it can teach, but is no backbone of a student. {CHOOSE}"
            )
        if _difference(head(self.plain[key].hidden), output.logits[0]) > self.tolerance:
            raise CaptureError(
                f"{type(self.model).__name__} scales or changes its logits around its output embeddings, so "
                "the losses would not be "
                f"its own: it can teach, but is no backbone of a student. {CHOOSE}"
            )

    @property
    def question(self) -> Piece:
        """The piece that both readers share, ids (B, QUESTION)."""
        return self.sequence.pieces[0]

    def prefix_of(self, packed: AttentionCall) -> "_Read":
        """The question of a packed call as a prefix: rotated keys and values, mask and positions."""
        prefix = {
            layer_id: ([seen.keys[:, :, :QUESTION]], [seen.values[:, :, :QUESTION]])
            for layer_id, seen in packed.seen.items()
        }
        return _Read(prefix, self.question.mask, self.sequence.positions[:, :QUESTION])

    def _call(self, call: AttentionCall, ids: Tensor, offset: int) -> Tensor:
        """Hidden states (B, S, D) of a captured call; each layer's mask is compared with the one given."""
        call.compare_masks = True  # a captured call would ignore a layer's own changes of the mask
        inputs = {"input_ids": ids}
        if self.embedded:
            inputs = {"inputs_embeds": self.model.get_input_embeddings()(ids)}
        with capture_attention(self.model):
            output = self.body(
                **inputs,
                attention_mask=call.visible,
                position_ids=call.query_positions + offset,  # pyright: ignore[reportOptionalOperand]
                use_cache=False,
                kv_call=call,
            )
        call.closed = True
        return output.last_hidden_state

    def _compare(
        self, what: str, hidden: Tensor, call: AttentionCall, sample: int, at: Tensor, plain: Plain
    ) -> None:
        """Compare ``hidden`` and captured columns ``at`` of one sample with the plain call of its text."""
        self.require(f"its hidden states differ when texts are {what}", [(hidden, plain.hidden)])
        # (B, H, S, K) -> (H, s, K): the columns of one text, in its own order.
        pairs = [(call.seen[layer_id].keys[sample][:, at], keys) for layer_id, keys in plain.keys.items()]
        pairs += [
            (call.seen[layer_id].values[sample][:, at], values) for layer_id, values in plain.values.items()
        ]
        self.require(f"its keys and values differ when texts are {what}", pairs)

    def require(self, what: str, pairs: list[tuple[Tensor, Tensor]]) -> None:
        """Refuse the model where a pair (found, expected) of equal shapes differs beyond the tolerance."""
        worst = max(_difference(found, expected) for found, expected in pairs)
        if not worst <= self.tolerance:
            raise CaptureError(
                f"{type(self.model).__name__} cannot be captured: {what} (relative difference {worst:.1e}), "
                "as where layers have a "
                "memory beside their attention, see both directions, or count columns in place of "
                f"positions. {CHOOSE}"
            )


@dataclass(frozen=True, slots=True)
class _Read:
    """The question as a prefix."""

    prefix: Prefix
    mask: Tensor
    positions: Tensor


def cache_source(check: Comparison, packed: AttentionCall, head: Head) -> CacheSource:
    """Which cache over the question gives the student's tokens the logits of the complete text.

    Args:
        check: The model with its packed sequence and plain calls.
        packed: The captured call of ``check.packed_call``.
        head: Hidden states (R, D) -> logits (R, C).

    Raises:
        CaptureError: if neither does.
    """
    model, question = check.model, check.prefix_of(packed)
    embeds = model.get_input_embeddings()(check.question.ids)
    # In this order: captured keys are at hand, a prefill is another forward pass.
    sources: tuple[tuple[CacheSource, Callable[[], Any]], ...] = (
        ("captured", lambda: captured_cache(model, question.prefix)),
        ("prefill", lambda: prefill_cache(model, embeds, question.mask, question.positions)),
    )
    failures = []  # one reason per source, for the error message
    for source, make in sources:
        try:
            difference = _after_cache(check, make(), head)
        except MODEL_ERRORS as error:
            failures.append(first_line(error))
            continue
        if difference <= check.tolerance:
            return source
        failures.append(f"logits differ by {difference:.1e}")
    raise CaptureError(
        f"{type(model).__name__} does not answer on top of a cache as it does without one "
        f"({'; '.join(failures)}): it can "
        f"teach, but is no backbone of a student. {CHOOSE}"
    )


def _after_cache(check: Comparison, cache: Any, head: Head) -> float:
    latents, question = check.sequence.pieces[1], check.question
    positions = question.mask.sum(-1, keepdim=True) + torch.arange(LATENTS, device=latents.ids.device)
    # (B, C): logits of the last latent, which has read the cache and the latents before it.
    logits = check.model(
        input_ids=latents.ids,
        attention_mask=torch.cat((question.mask, latents.mask), 1).long(),
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    ).logits[:, -1]
    expected = torch.stack([check.plain["student", sample].hidden[-1] for sample in range(len(logits))])
    return _difference(logits, head(expected))


def _tolerance(dtype: torch.dtype) -> float:
    if dtype not in (torch.float32, torch.float64):
        return HALF
    if torch.get_float32_matmul_precision() == "highest":
        return EXACT
    return ROUNDED


def _difference(found: Tensor, expected: Tensor) -> float:
    """Largest relative difference over the rows of the last dimension; not finite counts as infinite."""
    if found.shape != expected.shape:
        return math.inf
    # Relative to the largest row: rows near 0 would turn rounding into a large difference.
    scale = expected.float().norm(dim=-1).amax().clamp_min(1e-12)
    worst = float((found.float() - expected.float()).norm(dim=-1).amax() / scale)
    if math.isnan(worst):
        return math.inf
    return worst


def first_line(error: BaseException) -> str:
    """The first line of an error message, or the error's class where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
