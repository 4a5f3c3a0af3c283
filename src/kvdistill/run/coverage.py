"""Before training: the characters of the chains of thought that a teacher does not read."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvdistill.data.readers import Reader
from kvdistill.run.teacher_models import option_of
from kvdistill.teacher.base import Teacher
from kvdistill.text import Encoded, Segment

TOLD = 0.01
"""Share of the characters above which a line is printed."""
REFUSED = 0.2
"""Share of the characters above which the run is refused."""


@dataclass(frozen=True, slots=True)
class Unread:
    """What a teacher does not read of some chains of thought."""

    share: float
    """Of the visible characters, 0 to 1."""
    letters: tuple[str, ...]
    """The most frequent of them, three at most."""


def require_coverage(
    teachers: Sequence[Teacher], samples: Sequence[Encoded], say: Callable[[str], None]
) -> None:
    """Refuse teachers that read too little of the text; say how much is left out.

    Args:
        teachers: the teachers of a run; those that read the student's tokens read all of them.
        samples: encoded training samples.
        say: prints a line.

    Raises:
        ValueError: names the teacher, the share and what to do.
    """
    for teacher in teachers:
        if teacher.reader is None:
            continue
        found = unread(teacher.reader.of_student_text(), samples)
        if found.share <= TOLD:
            continue
        letters = ", ".join(map(repr, found.letters))
        told = (
            f"{option_of(teacher.name)}: its tokenizer does not know {100 * found.share:.0f} % of the "
            f"characters in the chains of thought of {len(samples)} training samples (such as {letters})"
        )
        if found.share > REFUSED:
            raise ValueError(
                f"{told}, and at most {100 * REFUSED:.0f} % may be missing. Choose a teacher whose tokenizer "
                "knows this text, or leave out such samples."
            )
        say(f"{told}: it reads the other characters")


def unread(reader: Reader, samples: Sequence[Encoded]) -> Unread:
    """What a reader leaves out, or reads as its unknown token.

    Args:
        reader: a teacher's tokenizer and template.
        samples: encoded samples.

    Returns:
        The share of the visible characters that the student reads, and the most frequent of them.
    """
    unknown = reader.tokenizer.unk_token_id
    readings = reader.read([sample.example for sample in samples])
    read, missing = 0, Counter[str]()
    for sample, reading in zip(samples, readings, strict=True):
        ours = _covered(sample.teacher_mode.cot)
        theirs = _covered(reading.cot, unknown)
        text = reading.cot.text
        read += sum(not text[place].isspace() for place in ours)
        missing.update(text[place] for place in ours - theirs if not text[place].isspace())
    return Unread(missing.total() / max(1, read), tuple(letter for letter, _ in missing.most_common(3)))


def _covered(segment: Segment, unknown: object = None) -> set[int]:
    """Characters that a token covers which is not the unknown one."""
    found: set[int] = set()
    for number, (start, end) in zip(segment.ids, segment.spans, strict=True):
        if number != unknown:
            found.update(range(start, end))
    return found
