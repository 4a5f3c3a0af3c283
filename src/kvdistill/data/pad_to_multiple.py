"""Pad the segments of a batch to multiples of a width, so that few shapes occur."""

from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from kvdistill.text import Batch, Padded, ReaderBatch, TokenAlignment

OVERLAPS = 4
"""The last axis of an alignment, the tokens that overlap one, becomes a multiple of this."""


def pad_to_multiple(batch: Batch, multiple: int) -> Batch:
    """Pad every segment on the right; an empty segment stays empty.

    Args:
        batch: B samples, as ``collate`` makes them.
        multiple: Tokens; the width of every segment becomes a multiple of it.

    Returns:
        The same samples; masks are False at what was added.
    """
    teacher_mode = _reader(batch.teacher_mode, multiple)
    return replace(
        batch,
        # Question, prompt and answer are shared with teacher mode, as in ``collate``.
        student_mode=replace(teacher_mode.without_cot(), cue=_segment(batch.student_mode.cue, multiple)),
        teacher_mode=teacher_mode,
        teachers={name: _reader(read, multiple) for name, read in batch.teachers.items()},
        alignments={name: _alignment(found, multiple) for name, found in batch.alignments.items()},
    )


def _reader(read: ReaderBatch, multiple: int) -> ReaderBatch:
    return ReaderBatch(
        question=_segment(read.question, multiple),
        cue=_segment(read.cue, multiple),
        cot=_segment(read.cot, multiple),
        prompt=_segment(read.prompt, multiple),
        answer=_segment(read.answer, multiple),
        step_end=_wide(read.step_end, multiple),
        spans=_wide(read.spans, multiple),
        step=_wide(read.step, multiple, fill=-1),
    )


def _segment(padded: Padded, multiple: int) -> Padded:
    return Padded(_wide(padded.ids, multiple), _wide(padded.mask, multiple))


def _alignment(found: TokenAlignment, multiple: int) -> TokenAlignment:
    index, average, carry = (
        _wide(_wide(table, multiple), OVERLAPS, axis=2) for table in (found.index, found.average, found.carry)
    )
    mask, covered, step_end = (
        _wide(flags, multiple) for flags in (found.mask, found.covered, found.step_end)
    )
    return TokenAlignment(index, average, carry, mask, covered, step_end)


def _wide(values: Tensor, multiple: int, fill: int = 0, axis: int = 1) -> Tensor:
    """Append entries of ``fill`` to an axis until its size is a multiple."""
    # functional.pad counts from the last axis, two numbers each.
    others = [0, 0] * (values.ndim - 1 - axis)
    return functional.pad(values, [*others, 0, -values.shape[axis] % multiple], value=fill)
