"""Whether every sample fits in the windows of the teachers that read it.

A data set is checked before training; of a stream the first window before training, and every row in the
loader.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kvdistill.capture.position_limit import PositionLimit
from kvdistill.data.encode import num_tokens
from kvdistill.run.gathering import SAMPLES
from kvdistill.run.teacher_models import option_of
from kvdistill.teacher.base import Teacher
from kvdistill.teacher.causal_lm import CausalLMTeacher
from kvdistill.text import Batch, Encoded, Example, Reading
from kvdistill.training.stream import Stream

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


@dataclass(frozen=True, slots=True)
class Window:
    """The longest text that one teacher reads."""

    teacher: str
    """Short name."""
    source: str
    """Folder or hub name of the model."""
    limit: PositionLimit
    added: int = 0
    """Tokens that the teacher reads beside the text: the delimiters of its chain of thought."""

    def check(self, batch: Batch, samples: Sequence[Encoded]) -> None:
        """Refuse a batch with a text that is longer.

        Args:
            batch: B samples, as collated for the teacher.
            samples: the same samples, in their order.

        Raises:
            ValueError: names the first such row, its tokens, the window, and what to do.
        """
        read = batch.read_by(self.teacher)
        segments = (read.question, read.cue, read.cot, read.prompt, read.answer)
        for index, sample in enumerate(samples):
            tokens = self.added + sum(int(segment.mask[index].sum()) for segment in segments)
            if tokens <= self.limit.tokens:
                continue
            option = option_of(self.teacher)
            raise ValueError(
                f"{option}: the row {sample.sample_id} of the stream is longer than the teacher "
                f"{self.source} reads: it {self.limit.reason} {self.limit.tokens} tokens, and the row has "
                f"{tokens}. "
                + _remedy(option, self.limit, TooLong(1, tokens, num_tokens(sample) - 1), "rows like it")
            )


def windows_of(teachers: Sequence[Teacher]) -> tuple[Window, ...]:
    """The windows of a run's teachers.

    Args:
        teachers: the teachers of a run.

    Returns:
        One entry per separate teacher whose texts are limited.
    """
    found = []
    for teacher in teachers:
        if not isinstance(teacher, CausalLMTeacher):
            continue
        limit = teacher.window()
        if limit is not None:
            found.append(Window(teacher.name, teacher.source, limit, _added(teacher)))
    return tuple(found)


def require_data_windows(teachers: Sequence[Teacher], data: Any, resumed: bool) -> None:
    """Refuse training data with samples that are longer than a teacher reads.

    Args:
        teachers: the teachers of a run.
        data: the training data set, or a stream, of which the first window is read.
        resumed: whether the run resumes, so that its stream's first window has been checked.

    Raises:
        ValueError: as ``require_windows`` does.
    """
    if not isinstance(data, Stream):
        require_windows(teachers, data)
    elif not resumed and windows_of(teachers):
        # Calibration reads the first samples too, which may be more than a window.
        require_windows(teachers, data.first_window(SAMPLES), "streamed")


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
    added = _added(teacher)
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


def _added(teacher: CausalLMTeacher) -> int:
    """Tokens around the chain of thought."""
    if teacher.delimiters is None:
        return 0
    return len(teacher.delimiters)


def _length(reading: Reading) -> int:
    return sum(len(segment.ids) for segment in reading.segments)


def _bytes(example: Example) -> int:
    """Bytes of the texts, with a line break or space around each."""
    texts = (example.question, example.teacher_cue, *example.steps, example.answer)
    return sum(len(text.encode()) + 2 for text in texts)


def _message(teacher: CausalLMTeacher, limit: PositionLimit, found: TooLong, whole: str) -> str:
    option = option_of(teacher.name)
    return (
        f"{option}: {found.count} of {whole} samples are longer than the teacher {teacher.source} "
        f"reads: it {limit.reason} {limit.tokens} tokens, and the longest has {found.longest}. "
        + _remedy(option, limit, found, "them")
    )


def _remedy(option: str, limit: PositionLimit, found: TooLong, which: str) -> str:
    longer = "choose a teacher that reads further"
    if limit.scalable:
        factor = -(-found.longest // limit.tokens)
        longer = f'set {option}.rope_scaling = {{rope_type = "ntk", factor = {factor}}}, or {longer}'
    kept = f"data.max_length = {found.max_length}, counted in the student's tokens"
    return f"Leave {which} out ({kept}), {longer}."
