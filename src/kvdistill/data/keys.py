"""Content keys: samples are joined by what they say, never by a row number or a file's name."""

from collections.abc import Iterable
from hashlib import blake2b

from kvdistill.text import Example


def question_key(example: Example) -> str:
    """The key of a question with its answer, whatever its chain of thought is.

    Args:
        example: The texts of a sample.

    Returns:
        32 hexadecimal digits, the same on every machine.
    """
    # The lengths are hashed along, so that text cannot move between question and answer.
    text = f"{len(example.question)}\0{example.question}{example.answer}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


def by_key(examples: Iterable[Example]) -> dict[str, Example]:
    """The distinct questions of a data set.

    Args:
        examples: Any number of samples.

    Returns:
        The first sample of each key, in order.
    """
    found: dict[str, Example] = {}
    for example in examples:
        found.setdefault(question_key(example), example)
    return found
