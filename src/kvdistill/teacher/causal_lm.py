"""A frozen causal language model with the student's tokenizer as teacher."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from kvdistill.capture import rotation
from kvdistill.capture.architecture import Architecture, examine
from kvdistill.capture.attention import body_of, capture_attention
from kvdistill.capture.extract import Columns, extract
from kvdistill.capture.position_limit import PositionLimit, position_limits, require_positions
from kvdistill.capture.sequence import attention_call, explicit
from kvdistill.kv import Geometry, ModelKV, TeacherCache, TwoModes
from kvdistill.models.checkpoint_integrity import fingerprint
from kvdistill.text import Batch

PARTS = {"normalizer": "normaliser", "pre_tokenizer": "pre-tokeniser", "model": "model"}
"""What decides how a text is cut; padding, truncation, templates and the flags of added tokens do not."""


@dataclass(frozen=True, eq=False)
class CausalLMTeacher:
    """A causal language model whose cache is read and which never learns: its parameters stop asking for
    gradients.

    It is no part of the student, so that it is neither trained nor saved with it, and follows each batch to
    its device.

    Raises:
        ValueError: if the model cannot be captured under a mask for each query and key.
    """

    model: PreTrainedModel
    source: str
    """Folder or hub name of the model, for messages and reports."""
    delimiters: tuple[int, int] | None = None
    """Tokens round the chain of thought, for a teacher that was itself trained with them."""
    name: str = "teacher"
    """Short name: its key in the configuration, in logs and in checkpoints."""

    def __post_init__(self) -> None:
        self.model.requires_grad_(False)
        self.architecture  # noqa: B018  (refused here, not at the first batch)

    def geometry(self) -> Geometry:
        """The teacher's attention layers, with the rotations that they carry now (measured at the first
        call).
        """
        return rotation.geometry(self.architecture.layers)

    def fingerprint(self) -> str:
        """Hashes of some of its tensors."""
        return fingerprint(self.model)

    def cache(self, batch: Batch, outputs: TwoModes) -> TeacherCache:
        """Its cache over the chain of thought of each sample."""
        with torch.autocast(batch.question.ids.device.type, enabled=False):
            return TeacherCache(self.name, self.read(batch))

    @torch.no_grad()
    def read(self, batch: Batch) -> ModelKV:
        """The cache over the chain of thought, un-rotated, with the importance that the teacher's own
        attention gives.

        It reads question, cue, chain of thought, prompt and answer in one call without its head, in
        evaluation mode. The student's latent tokens are in none of these.

        Raises:
            ValueError: if a text is longer than the teacher's table of learned positions.
        """
        if self.model.device != batch.question.ids.device:
            self.model.to(batch.question.ids.device)  # pyright: ignore[reportArgumentType]
        self.geometry()  # measured before the call, since measuring puts a short text's frequencies back
        sequence = explicit(batch, self.delimiters)
        width = sequence.ids.shape[1] - 1  # the last token of an answer predicts nothing
        call = attention_call(sequence, width)
        positions = sequence.positions()
        model_positions = positions + self.architecture.position_offset
        self._require_positions(model_positions)
        with rotation.evaluating(self.model), capture_attention(self.model):
            body_of(self.model)(
                input_ids=sequence.ids[:, :width],
                attention_mask=call.visible,
                position_ids=model_positions[:, :width],
                use_cache=False,
                kv_call=call,
            )
        call.closed = True
        start, stop = sequence.span("cot", "teacher")
        cot = Columns(start, stop, batch.cot.mask, positions[:, start:stop], batch.step_end)
        return extract(call, self.geometry(), cot, sequence.answer_rows("teacher"), self.source)

    @cached_property
    def architecture(self) -> Architecture:
        """What was measured on the model."""
        return examine(self.model)

    @cached_property
    def _limits(self) -> tuple[PositionLimit, ...]:
        return position_limits(self.model)

    def _require_positions(self, positions: Int[Tensor, "B S"]) -> None:
        def describe(limit: PositionLimit, needed: int) -> str:
            return (
                f"The teacher {self.source} {limit.reason} {limit.tokens} tokens, and a sample has {needed}. "
                "Leave samples beyond "
                f"{limit.tokens} tokens out (max_length), or choose a teacher that reads further."
            )

        require_positions(
            self._limits, positions.shape[1], positions, describe, lambda: self.architecture.is_learned
        )


def require_same_tokenizer(
    student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, name: str, added: Collection[str]
) -> None:
    """Refuse a teacher to whom the student's token ids mean something else, or who would cut a text
    differently.

    ``added`` are the tokens that the student's side may have added (the latent ones); neither side needs to
    know them.

    Raises:
        ValueError: naming what differs first, and what to do.
    """
    if not (isinstance(student, PreTrainedTokenizerFast) and isinstance(teacher, PreTrainedTokenizerFast)):
        raise ValueError(
            f"The tokenizers of student and teacher {name} can only be compared where both are fast (have a "
            "tokenizer.json)."
        )
    difference = _numbers_differ(student, teacher, added) or _cuts_differ(student, teacher)
    if difference:
        raise ValueError(
            f"The teacher {name} has another tokenizer than the student: {difference}. Choose a teacher of "
            "the student's family, which "
            "shares its tokenizer; teachers with other tokenizers are for the multi-teacher script."
        )


def require_vocabulary(model: PreTrainedModel, ids: Iterable[int], name: str) -> None:
    """Refuse a teacher that has no embedding for one of the student's token ids.

    Raises:
        ValueError: naming the highest id.
    """
    rows, highest = len(model.get_input_embeddings().weight), max(ids, default=-1)  # pyright: ignore[reportArgumentType]
    if highest >= rows:
        raise ValueError(
            f"The teacher {name} has embeddings for {rows} tokens, but the student's tokens go up to id "
            f"{highest}. Choose a teacher that "
            "was trained with the student's tokenizer."
        )


def _numbers_differ(
    student: PreTrainedTokenizerFast, teacher: PreTrainedTokenizerFast, added: Collection[str]
) -> str:
    ours, theirs = (
        {token: number for token, number in t.get_vocab().items() if token not in added}
        for t in (student, teacher)
    )
    if ours == theirs:
        return ""
    _, token = min((number, token) for token, number in ours.items() ^ theirs.items())
    here, there = (f"number {known[token]}" if token in known else "unknown" for known in (ours, theirs))
    return f"the token {token!r} is {here} to the student and {there} to the teacher"


def _cuts_differ(student: PreTrainedTokenizerFast, teacher: PreTrainedTokenizerFast) -> str:
    ours, theirs = (json.loads(t.backend_tokenizer.to_str()) for t in (student, teacher))
    for part, words in PARTS.items():
        here, there = (
            {name: value for name, value in (whole[part] or {}).items() if value} for whole in (ours, theirs)
        )
        for setting in [*here, *there]:  # one that is left out and one that is empty or off are the same
            one, other = _first_unlike(here.get(setting), there.get(setting))
            if one != other:
                return (
                    f"the {words} differs in its {setting}, {one!r} for the student and {other!r} for "
                    "the teacher"
                )
    return ""


def _first_unlike(one: object, other: object) -> tuple[object, object]:
    """The two, or where both are lists the first entries that differ."""
    if not (isinstance(one, list) and isinstance(other, list)):
        return one, other
    return next(((a, b) for a, b in zip_longest(one, other) if a != b), (None, None))
