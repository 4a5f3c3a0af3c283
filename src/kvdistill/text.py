"""What a question and its chain of thought are, before and after tokenisation."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Example:
    """One problem in words."""

    question: str
    steps: tuple[str, ...]
    """The chain of thought, one reasoning step an entry."""
    answer: str
    """The final answer alone: a number, or a word."""
    sample_id: str
    cue: str = ""
    """Closing words of the question that only the explicit reader sees, such as a wish for a full trace."""
    student_cue: str = ""
    """Closing words of the question that only the latent student sees."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of text as token ids."""

    text: str
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """Characters [start, end) of ``text`` that each token covers."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as token ids. Segments are tokenised apart and joined as ids."""

    sample_id: str
    question: Segment
    """What both modes read."""
    cue: Segment
    """End of the question that only teacher mode reads; mostly empty."""
    student_cue: Segment
    """End of the question that only student mode reads; mostly empty."""
    cot: Segment
    prompt: Segment
    """The answer prompt; its last token is the distillation token."""
    answer: Segment
    """The answer, closed by the end-of-sequence token (whose span is empty)."""
    step_ends: tuple[int, ...]
    """Index in ``cot.ids`` of the last token of each reasoning step."""
    example: Example


@dataclass(frozen=True, slots=True)
class Padded:
    """One segment of a batch, padded to its longest member."""

    ids: Int[Tensor, "B S"]
    mask: Bool[Tensor, "B S"]

    @property
    def lengths(self) -> Int[Tensor, " B"]:
        """Number of tokens of each sample."""
        return self.mask.sum(-1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded examples side by side, each segment padded on its own."""

    question: Padded
    cue: Padded
    student_cue: Padded
    cot: Padded
    prompt: Padded
    answer: Padded
    step_end: Bool[Tensor, "B N"]
    """True at the last token of each reasoning step of ``cot``."""
    cot_id: Int[Tensor, " B"]
    """A number that two samples share where chain of thought and answer are the same."""
    sample_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sample_ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""

        def move(value: object) -> object:
            if isinstance(value, Padded):
                return Padded(
                    value.ids.to(device, non_blocking=non_blocking),
                    value.mask.to(device, non_blocking=non_blocking),
                )
            return value.to(device, non_blocking=non_blocking) if isinstance(value, Tensor) else value

        return replace(self, **{f.name: move(getattr(self, f.name)) for f in fields(self)})
