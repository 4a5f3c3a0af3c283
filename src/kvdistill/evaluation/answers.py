"""When is an answer right?"""

import math

from kvdistill.data.gsm8k import MARKER
from kvdistill.data.numbers import leading_number
from kvdistill.data.template import ANSWER_PROMPT

_RELATIVE_ERROR = 1e-9
_NUMERIC = set("0123456789.,-−$€£¥% \t\r")
"""What a number may be written with."""


def extract(text: str, prompt: str = ANSWER_PROMPT) -> str | None:
    """The final answer in a text: what follows the first ``####`` or, without one, the first ``prompt``.

    The first counts, since what a model says after its answer is no part of it.

    Returns:
        The first line with text after it, as it was said; None where no marker stands, or nothing after it.

    Source: https://arxiv.org/abs/2110.14168, section 2.
    """
    for marker in (MARKER, prompt):
        _, found, after = text.partition(marker)
        if found:
            return _line(after).strip() or None
    return None


def canonical(answer: str) -> str | None:
    """One form for all spellings of an answer: ``"$1,000.00 a day"`` is ``"1000"``, ``"Bob ."`` is ``"bob"``.

    Only the first line with text counts. A number that stands first makes the answer a number; otherwise it
    is the words, in lower case, without closing punctuation. None where there is no text.
    """
    words = _words(answer)
    return leading_number(_line(answer)) or (words and leading_number(words)) or words


def same(said: str, wanted: str) -> bool:
    """Whether an answer (without its marker) is the one that is wanted: as numbers where that is a number and
    no more, else as words.

    Whole numbers must agree exactly, others to 1e-9 of their size, because data sets hold results of
    floating-point sums. What only begins with a number, such as ``3\\sqrt{13}``, is words: ``3`` is another
    answer.
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
    """The first line with text."""
    return next((line for line in answer.split("\n") if line.strip()), "")


def _words(answer: str) -> str | None:
    return " ".join(_line(answer).split()).strip(" .,;:!?\"'").casefold() or None
