"""Scoring: extract the final answer from a text and compare it with the reference."""

import math

from kvdistill.data.gsm8k import MARKER
from kvdistill.data.numbers import leading_number
from kvdistill.data.template import ANSWER_PROMPT

_RELATIVE_ERROR = 1e-9  # references in data sets are results of floating-point sums
_NUMERIC = set("0123456789.,-−$€£¥% \t\r")
"""Characters that a numeric reference is written with."""


def extract(text: str, prompt: str = ANSWER_PROMPT) -> str | None:
    """Final answer in a text: what follows the first ``####`` or, without one, the first ``prompt``.

    The first marker counts, since text that a model writes after its answer is not part of it.

    Args:
        text: What the model wrote after the question.
        prompt: Answer prompt of the template.

    Returns:
        The first non-empty line after the marker, stripped; None where there is no marker or nothing
        after it.

    Source: https://arxiv.org/abs/2110.14168, section 2.
    """
    for marker in (MARKER, prompt):
        _, found, after = text.partition(marker)
        if found:
            return _line(after).strip() or None
    return None


def canonical(answer: str) -> str | None:
    """Normalize an answer: ``"$1,000.00 a day"`` gives ``"1000"``, ``"Bob ."`` gives ``"bob"``.

    Only the first non-empty line counts.

    Args:
        answer: An answer without its marker.

    Returns:
        The number that the line begins with, as plain digits; otherwise its words in lower case, without
        punctuation at either end; None where there is no text.
    """
    words = _words(answer)
    return leading_number(_line(answer)) or (words and leading_number(words)) or words


def same(said: str, wanted: str) -> bool:
    """Whether an answer equals the reference: as numbers where the reference is a plain number, else as text.

    Integers must agree exactly, other numbers to a relative error of 1e-9, because data sets hold results of
    floating-point sums. A reference that only begins with a number, such as ``3\\sqrt{13}``, is compared as
    text: ``3`` does not equal it.

    Args:
        said: The model's answer, without its marker.
        wanted: The reference.

    Returns:
        True where they are equal; False where either has no text.
    """
    if not set(_line(wanted)) <= _NUMERIC:
        return _words(said) is not None and _words(said) == _words(wanted)
    one, other = canonical(said), canonical(wanted)
    if one is None or other is None or one == other:
        return one is not None and one == other
    if leading_number(one) != one or leading_number(other) != other or "." not in one + other:
        return False
    return math.isclose(float(one), float(other), rel_tol=_RELATIVE_ERROR)


def _line(answer: str) -> str:
    """First non-empty line."""
    return next((line for line in answer.split("\n") if line.strip()), "")


def _words(answer: str) -> str | None:
    return " ".join(_line(answer).split()).strip(" .,;:!?\"'").casefold() or None
