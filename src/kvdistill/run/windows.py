"""Before training: whether every sample fits in the windows of the teachers that read it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvdistill.capture.position_limit import PositionLimit
from kvdistill.data.encode import num_tokens
from kvdistill.run.teacher_models import option_of
from kvdistill.teacher.base import Teacher
from kvdistill.teacher.causal_lm import CausalLMTeacher
from kvdistill.text import Encoded, Example, Reading

CHUNK = 1024
"""Samples that are tokenized at a time for a teacher with its own tokenizer."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """The samples of a data set that are longer than a teacher reads."""

    count: int
    longest: int
    """Tokens of the longest, as the teacher reads it."""
    max_length: int
    """The largest ``data.max_length``, in the student's tokens, that leaves them out."""


def require_windows(
    teachers: Sequence[Teacher], samples: Sequence[Encoded], data_set: str = "training"
) -> None:
    """Refuse data with samples that are longer than a teacher reads.

    Args:
        teachers: the teachers of a run; self-distillation has the student's own limits.
        samples: the encoded samples.
        data_set: which they are, for the message.

    Raises:
        ValueError: names the teacher, its window, the number of samples beyond it, the longest of them, and
            what to do.
    """
    for teacher in teachers:
        if not isinstance(teacher, CausalLMTeacher):
            continue
        limit = teacher.window()
        if limit is None:
            continue
        found = beyond(teacher, samples, limit.tokens)
        if found is not None:
            raise ValueError(_message(teacher, limit, found, f"{len(samples)} {data_set}"))


def beyond(teacher: CausalLMTeacher, samples: Sequence[Encoded], window: int) -> TooLong | None:
    """The samples that are longer than a window, as a teacher reads them.

    Args:
        teacher: tokenizes the samples that may be too long, where it has its own tokenizer or template.
        samples: the encoded training set.
        window: tokens that the teacher reads.

    Returns:
        Their number and the longest; None where all fit.
    """
    added = 0
    if teacher.delimiters is not None:
        added = 2
    long = [
        (tokens + added, num_tokens(sample))
        for tokens, sample in _lengths(teacher, samples, window - added)
        if tokens + added > window
    ]
    if not long:
        return None
    return TooLong(len(long), max(long)[0], min(student for _, student in long) - 1)


def _lengths(
    teacher: CausalLMTeacher, samples: Sequence[Encoded], window: int
) -> Iterator[tuple[int, Encoded]]:
    """Tokens of each sample that may be longer than the window."""
    if teacher.reader is None:
        for sample in samples:
            yield _length(sample.teacher_mode), sample
        return
    # No tokenizer makes more tokens than there are bytes, apart from what its template adds: most samples
    # need not be tokenized a second time.
    (empty,) = teacher.reader.encode([Example("", (), "", "empty")])
    longest = ((teacher.reader.text.longest(sample.example), sample) for sample in samples)
    possible = [pair for pair in longest if _bytes(pair[0]) + _length(empty) > window]
    for start in range(0, len(possible), CHUNK):
        chunk = possible[start : start + CHUNK]
        readings = teacher.reader.encode([example for example, _ in chunk])
        for reading, (_, sample) in zip(readings, chunk, strict=True):
            yield _length(reading), sample


def _length(reading: Reading) -> int:
    return sum(len(segment.ids) for segment in reading.segments)


def _bytes(example: Example) -> int:
    """Bytes of the texts, with a line break or space around each."""
    texts = (example.question, example.teacher_cue, *example.steps, example.answer)
    return sum(len(text.encode()) + 2 for text in texts)


def _message(teacher: CausalLMTeacher, limit: PositionLimit, found: TooLong, whole: str) -> str:
    option = option_of(teacher.name)
    longer = "choose a teacher that reads further"
    if limit.scalable:
        factor = -(-found.longest // limit.tokens)
        longer = f'set {option}.rope_scaling = {{rope_type = "ntk", factor = {factor}}}, or {longer}'
    return (
        f"{option}: {found.count} of {whole} samples are longer than the teacher {teacher.source} "
        f"reads: it {limit.reason} {limit.tokens} tokens, and the longest has {found.longest}. Leave them "
        f"out (data.max_length = {found.max_length}, counted in the student's tokens), {longer}."
    )
