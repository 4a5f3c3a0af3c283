"""Live teacher: a frozen causal language model of any family."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from kvdistill.align.heads import geometry_of_heads, select_heads
from kvdistill.capture import rotation
from kvdistill.capture.architecture import Architecture, examine
from kvdistill.capture.attention import body_of, capture_attention
from kvdistill.capture.extract import Columns, extract
from kvdistill.capture.position_limit import (
    PositionLimit,
    position_limits,
    require_positions,
    trained_window,
)
from kvdistill.capture.sequence import attention_call, explicit
from kvdistill.data.readers import Reader
from kvdistill.kv import Geometry, ModelKV, TeacherCache, TwoModes
from kvdistill.models.checkpoint_integrity import fingerprint
from kvdistill.models.memory import explained_out_of_memory
from kvdistill.text import Batch

PARTS = {"normalizer": "normaliser", "pre_tokenizer": "pre-tokeniser", "model": "model"}
"""The parts of a tokenizer that decide how a text is split; padding, truncation, templates and flags of added
tokens do not.
"""


@dataclass(frozen=True, eq=False)
class CausalLMTeacher:
    """A frozen causal language model whose KV cache is the teacher's; gradients are turned off.

    It is not part of the student, so it is neither trained nor saved with it. ``read`` moves it to the device
    of the batch, unless it is ``placed``; its cache is on the device of the batch in any case.

    Raises:
        ValueError: if the model cannot be captured under a mask for each query and key.
    """

    model: PreTrainedModel
    source: str
    """Folder or hub name of the model, for messages and reports."""
    delimiters: tuple[int, int] | None = None
    """Token ids before and after the chain of thought, for a teacher that was trained with them."""
    name: str = "teacher"
    """Short name: its key in the configuration, in logs and in checkpoints."""
    reader: Reader | None = None
    """Its tokenizer and prompt template; None where it reads what the student reads in teacher mode."""
    placed: bool = False
    """Whether it stays on the devices where it was loaded."""
    heads: tuple[int, ...] | None = None
    """Key/value heads that are read in every layer; None for all."""

    def __post_init__(self) -> None:
        self.model.requires_grad_(False)
        self.architecture  # noqa: B018  (refused here, not at the first batch)

    def geometry(self) -> Geometry:
        """Attention layers of the teacher, with their current rotary frequencies.

        Returns:
            One entry per attention layer, with the heads that are read.

        Raises:
            ValueError: if a layer lacks one of ``heads``.
        """
        all_heads = rotation.geometry(self.architecture.layers)
        if self.heads is None:
            return all_heads
        return geometry_of_heads(all_heads, self.heads)

    def fingerprint(self) -> str:
        """Identify the teacher's weights.

        Returns:
            Dtype and a hash over some values of each tensor.
        """
        return fingerprint(self.model)

    def cache(self, batch: Batch, outputs: TwoModes) -> TeacherCache:
        """KV cache over the chain of thought of each sample.

        Args:
            batch: B samples.
            outputs: Not used.

        Returns:
            Per layer un-rotated keys (B, H, N, K) and values (B, H, N, V), with importance (B, H, N).
        """
        # The teacher computes in its own dtype, not in that of the student's mixed precision.
        with torch.autocast(batch.cot_id.device.type, enabled=False):
            return TeacherCache(self.name, self.read(batch))

    @torch.no_grad()
    def read(self, batch: Batch) -> ModelKV:
        """Run the teacher on what it reads of a batch and extract the cache over the chain of thought.

        It reads question, cue, chain of thought, prompt and answer in one forward pass without its head, in
        evaluation mode. None of these contains the student's latent tokens.

        Args:
            batch: B samples.

        Returns:
            Per layer un-rotated keys (B, H, N, K) and values (B, H, N, V), with importance (B, H, N) from the
            teacher's own attention.

        Raises:
            ValueError: if a text is longer than the teacher reads (learned positions, chunked attention), or
                the teacher does not fit beside the student on its device.
        """
        device = batch.cot_id.device
        if not self.placed and self.model.device != device:
            with explained_out_of_memory(self.name, self.source, self.model):
                self.model.to(device)  # pyright: ignore[reportArgumentType]
        reader = batch.to(self.model.device).read_by(self.name)
        self.geometry()  # measured before the call, since measuring sets the frequencies of a short text
        sequence = explicit(reader, self.delimiters)
        width = sequence.ids.shape[1] - 1  # the last token of an answer predicts nothing
        call = attention_call(sequence, width)
        positions = sequence.positions  # (B, S), from 0
        # Rotations are removed at ``positions``: only models without rotary embeddings have an offset.
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
        # Of all S columns only the N of the chain of thought are kept.
        start, stop = sequence.span("cot", "teacher")
        cot = Columns(start, stop, reader.cot.mask, positions[:, start:stop], reader.step_end)
        kv = extract(
            call,
            rotation.geometry(self.architecture.layers),
            cot,
            sequence.answer_rows("teacher"),
            self.source,
        )
        if self.heads is not None:
            kv = select_heads(kv, self.heads)
        return kv.map(tuple(layer.map_slots(lambda tensor: tensor.to(device)) for layer in kv.layers))

    def window(self) -> PositionLimit | None:
        """The longest text that the teacher reads.

        Returns:
            The smallest of its limits: learned positions, chunked attention, the window that its rotary
            positions were trained on; None where there is none.
        """
        found = [limit for limit in self._limits if not limit.learned or self.architecture.is_learned]
        trained = trained_window(self.model)
        if trained is not None and any(layer.rotation is not None for layer in self.architecture.layers):
            found.append(trained)
        return min(found, key=lambda limit: limit.tokens, default=None)

    @cached_property
    def architecture(self) -> Architecture:
        """Measured attention layers and position offset of the model."""
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


def tokenizer_difference(
    student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, name: str, added: Collection[str]
) -> str:
    """How a teacher's tokenizer differs from the student's, in the ids of tokens or in splitting a text.

    Args:
        student: The student's tokenizer.
        teacher: The teacher's tokenizer.
        name: Name of the teacher, for the message.
        added: Tokens that the student may have added (the latent ones); either side may lack them.

    Returns:
        The first difference, as a clause; empty where both read the same tokens.

    Raises:
        ValueError: if one of them is not a fast tokenizer, which alone gives character offsets.
    """
    for owner, tokenizer in ((f"teacher {name}", teacher), ("student", student)):
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise ValueError(
                f"The {owner} has no fast tokenizer (no tokenizer.json) but a {type(tokenizer).__name__}, "
                "which gives no characters of its tokens, so they cannot be matched: put a tokenizer.json "
                "into its folder, or choose a model that has one."
            )
    assert isinstance(student, PreTrainedTokenizerFast)
    assert isinstance(teacher, PreTrainedTokenizerFast)
    return _numbers_differ(student, teacher, added) or _cuts_differ(student, teacher)


def require_vocabulary(model: PreTrainedModel, ids: Iterable[int], name: str) -> None:
    """Refuse a teacher that has no embedding for one of the token ids that it will read.

    Args:
        model: The teacher's model.
        ids: Token ids that the teacher will read.
        name: Name of the teacher, for the message.

    Raises:
        ValueError: if an id is beyond the teacher's embeddings; names the highest id.
    """
    rows = len(model.get_input_embeddings().weight)  # pyright: ignore[reportArgumentType]
    highest = max(ids, default=-1)
    if highest >= rows:
        raise ValueError(
            f"The teacher {name} has embeddings for {rows} tokens, but its tokens go up to id {highest}: its "
            "tokenizer is another model's. Choose a teacher that was trained with its tokenizer."
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
    # Of all tokens that differ, the one with the lowest id is reported.
    _, token = min((number, token) for token, number in ours.items() ^ theirs.items())
    here, there = (f"number {known[token]}" if token in known else "unknown" for known in (ours, theirs))
    return f"the token {token!r} is {here} to the student and {there} to the teacher"


def _cuts_differ(student: PreTrainedTokenizerFast, teacher: PreTrainedTokenizerFast) -> str:
    ours, theirs = (json.loads(t.backend_tokenizer.to_str()) for t in (student, teacher))
    for part, words in PARTS.items():
        here, there = (
            {name: value for name, value in (whole[part] or {}).items() if value} for whole in (ours, theirs)
        )
        for setting in [*here, *there]:  # a missing setting equals one that is empty or off
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
