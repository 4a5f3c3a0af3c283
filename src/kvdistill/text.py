"""Text types: examples, token segments and padded batches, before and after tokenization.

Letters of shapes: see ``kv.py``.
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Example:
    """One problem as plain text: question, reasoning steps, answer."""

    question: str
    steps: tuple[str, ...]
    """The chain of thought, one entry per reasoning step."""
    answer: str
    """The final answer without reasoning: a number, or a word."""
    sample_id: str
    cue: str = ""
    """End of the question that only teacher mode reads, such as a request for a full trace."""
    student_cue: str = ""
    """End of the question that only student mode reads."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of text as token ids."""

    text: str
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """Characters [start, end) of ``text`` that each token covers."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as token ids. Segments are tokenized separately and joined as ids."""

    sample_id: str
    question: Segment
    """The part of the question that both modes read."""
    cue: Segment
    """End of the question that only teacher mode reads; mostly empty."""
    student_cue: Segment
    """End of the question that only student mode reads; mostly empty."""
    cot: Segment
    """The chain of thought; only teacher mode reads it."""
    prompt: Segment
    """The answer prompt; its last token is the distillation token."""
    answer: Segment
    """The answer, followed by the end-of-sequence token (whose span is empty)."""
    step_ends: tuple[int, ...]
    """Index in ``cot.ids`` of the last token of each reasoning step."""
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
class Batch:
    """A batch of encoded examples. Each segment is padded separately."""

    question: Padded
    cue: Padded
    student_cue: Padded
    cot: Padded
    prompt: Padded
    answer: Padded
    step_end: Bool[Tensor, "B N"]
    """True at the last token of each reasoning step of ``cot``."""
    cot_id: Int[Tensor, " B"]
    """Hash of chain of thought and answer: equal where two samples have the same text."""
    sample_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sample_ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Copy all tensors of the batch to a device.

        Args:
            device: Target device.
            non_blocking: Copy asynchronously, as in ``Tensor.to``.

        Returns:
            A new batch; sample ids are shared.
        """

        def move(value: object) -> object:
            if isinstance(value, Padded):
                return Padded(
                    value.ids.to(device, non_blocking=non_blocking),
                    value.mask.to(device, non_blocking=non_blocking),
                )
            return value.to(device, non_blocking=non_blocking) if isinstance(value, Tensor) else value

        return replace(self, **{f.name: move(getattr(self, f.name)) for f in fields(self)})
