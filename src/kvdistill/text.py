"""Text types: examples, what each reader reads of them, and padded batches.

A reader is a model with its prompt: the student in its two modes, and each separate teacher. Letters of
shapes: see ``kv.py``; ``k`` counts the teacher tokens that one student token overlaps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class NamedTrace:
    """A chain of thought of an example by name, such as its verbose one."""

    name: str
    steps: tuple[str, ...]
    """One entry per reasoning step."""
    cue: str = ""
    """End of the question that asks for it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One problem as plain text: question, reasoning steps, answer."""

    question: str
    steps: tuple[str, ...]
    """The chain of thought, one entry per reasoning step."""
    answer: str
    """The final answer without reasoning: a number, or a word."""
    sample_id: str
    teacher_cue: str = ""
    """End of the question for readers of the chain of thought, such as a request for a full trace."""
    student_cue: str = ""
    """End of the question for student mode, which reasons in latent slots."""
    depth: int | None = None
    """Number of dependent steps from question to answer, where it is known; accuracy is reported by it."""
    traces: tuple[NamedTrace, ...] = ()
    """Every chain of thought that the data have of the problem, where they have several."""

    @property
    def dependent_steps(self) -> int | None:
        """``depth``, or else the number of steps in the chain of thought; None where there are none."""
        if self.depth is not None:
            return self.depth
        return len(self.steps) or None


class QuestionRead(NamedTuple):
    """Which of the student's keys are the vector of a question."""

    layer: int
    """Index of the layer in the model."""
    pool: Literal["last", "mean"] = "last"
    """The last token of the question, or the mean over all of its tokens."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of text as token ids."""

    text: str
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """Characters [start, end) of ``text`` that each token covers."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An example as one reader's token ids. Segments are tokenized separately and joined as ids."""

    question: Segment
    """The question, up to ``cue``."""
    cue: Segment
    """End of the question that only this reader reads; mostly empty."""
    cot: Segment
    """The chain of thought; empty for student mode, which reasons in latent slots."""
    prompt: Segment
    """The answer prompt; its last token is the distillation token."""
    answer: Segment
    """The answer, followed by the end-of-sequence token (whose span is empty)."""
    step_ends: tuple[int, ...]
    """Index in ``cot.ids`` of the last token of each reasoning step."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments in the order in which they are read."""
        return self.question, self.cue, self.cot, self.prompt, self.answer


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as the student reads it in each of its modes."""

    sample_id: str
    student_mode: Reading
    teacher_mode: Reading
    """Question, prompt and answer are those of ``student_mode``."""
    example: Example


@dataclass(frozen=True, slots=True)
class Padded:
    """One segment of a batch, padded to its longest member, on either side."""

    ids: Int[Tensor, "B S"]
    mask: Bool[Tensor, "B S"]

    @property
    def lengths(self) -> Int[Tensor, " B"]:
        """Number of tokens of each sample, padding excluded."""
        return self.mask.sum(-1)


@dataclass(frozen=True, slots=True)
class ReaderBatch:
    """What one reader reads of a batch. Each segment is padded separately."""

    question: Padded
    cue: Padded
    cot: Padded
    """The chain of thought, N tokens; none for student mode."""
    prompt: Padded
    answer: Padded
    step_end: Bool[Tensor, "B N"]
    """True at the last token of each reasoning step of ``cot``."""
    spans: Int[Tensor, "B N 2"]
    """Characters [start, end) of the chain of thought that each token covers; 0 at padding."""
    step: Int[Tensor, "B N"]
    """Reasoning step of each token of ``cot``, from 0, with the line break after it; -1 at padding."""

    def without_cot(self) -> "ReaderBatch":
        """The same without a chain of thought, as student mode and direct answers read it.

        Returns:
            A batch with N = 0; the other segments are shared.
        """
        return replace(
            self,
            cot=Padded(self.cot.ids[:, :0], self.cot.mask[:, :0]),
            step_end=self.step_end[:, :0],
            spans=self.spans[:, :0],
            step=self.step[:, :0],
        )


@dataclass(frozen=True, slots=True)
class TokenAlignment:
    """Which teacher tokens cover the characters of each student token, over one chain of thought.

    ``N`` are the tokens of the chain of thought as the student's teacher mode reads it, ``k`` is the largest
    number of teacher tokens that one of them overlaps, at least 1.
    """

    index: Int[Tensor, "B N k"]
    """Column in the teacher's padded ``cot`` of each overlapping teacher token; 0 where unused."""
    average: Float[Tensor, "B N k"]
    """Weights for keys and values: they sum to 1 over k where ``covered``, else they are 0."""
    carry: Float[Tensor, "B N k"]
    """Share of each teacher token's importance that goes to the student token; summed over all student tokens
    1 for every teacher token that overlaps one.
    """
    mask: Bool[Tensor, "B N"]
    """True where the student has a token."""
    covered: Bool[Tensor, "B N"]
    """True where the student has a token that a teacher token overlaps."""
    step_end: Bool[Tensor, "B N"]
    """True at the student's last token of each reasoning step."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of encoded examples, as each reader reads them."""

    student_mode: ReaderBatch
    teacher_mode: ReaderBatch
    """Question, prompt and answer are the tensors of ``student_mode``."""
    cot_id: Int[Tensor, " B"]
    """Hash of chain of thought and answer: equal where two samples have the same text."""
    sample_ids: tuple[str, ...]
    teachers: Mapping[str, ReaderBatch] = field(default_factory=dict)
    """By short name, what each teacher reads whose tokens are not those of teacher mode."""
    alignments: Mapping[str, TokenAlignment] = field(default_factory=dict)
    """By short name, the alignment of each of ``teachers`` whose chain of thought has other tokens than that
    of teacher mode.
    """
    competence: Float[Tensor, "B E"] | None = None
    """Competence of each of E teachers, sums to 1 over E; 0 throughout where it is not known. None where no
    fusion uses it.
    """

    def __len__(self) -> int:
        return len(self.sample_ids)

    def read_by(self, teacher: str) -> ReaderBatch:
        """What a teacher reads.

        Args:
            teacher: Short name of the teacher.

        Returns:
            Its own entry of ``teachers``, else what the student reads in teacher mode.
        """
        return self.teachers.get(teacher, self.teacher_mode)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Copy all tensors of the batch to a device.

        Args:
            device: Target device.
            non_blocking: Copy asynchronously, as in ``Tensor.to``.

        Returns:
            A new batch; tensors that readers share are copied once.
        """
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def tensors(self) -> list[Tensor]:
        """All tensors of the batch, in the same order for every batch with the same readers."""
        found: list[Tensor] = []

        def note(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        self.map(note)
        return found

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Change all tensors of the batch; one that readers share is changed once and still shared.

        Args:
            change: Gives the tensor that takes a tensor's place.

        Returns:
            A new batch with the same sample ids.
        """
        changed: dict[int, Tensor] = {}

        def each(value: Any) -> Any:
            if isinstance(value, Tensor):
                if id(value) not in changed:
                    changed[id(value)] = change(value)
                return changed[id(value)]
            if isinstance(value, dict):
                return {name: each(one) for name, one in value.items()}
            if is_dataclass(value):
                return type(value)(**{f.name: each(getattr(value, f.name)) for f in fields(value)})
            return value

        return each(self)
