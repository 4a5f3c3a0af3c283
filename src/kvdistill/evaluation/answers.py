"""When is an answer right?"""

import math

from kvdistill.data.gsm8k import MARKER
from kvdistill.data.numbers import leading_number
from kvdistill.data.template import ANSWER_PROMPT

_RELATIVE_ERROR = 1e-9


def extract(text: str, prompt: str = ANSWER_PROMPT) -> str | None:
    """The final answer in a text: what follows the first ``####`` or, without one, the first ``prompt``.

    The first counts, since what a model says after its answer is no part of it.

    Returns:
        The answer as ``canonical`` writes it; None where no marker stands, or nothing after it.

    Source: https://arxiv.org/abs/2110.14168, section 2.
    """
    for marker in (MARKER, prompt):
        _, found, after = text.partition(marker)
        if found:
            return canonical(after)
    return None


def canonical(answer: str) -> str | None:
    """One form for all spellings of an answer: ``"$1,000.00 a day"`` is ``"1000"``, ``"Bob ."`` is ``"bob"``.

    Only the first line with text counts. A number that stands first makes the answer a number; otherwise it is the words, in lower
    case, without closing punctuation. None where there is no text.
    """
    line = next((line for line in answer.split("\n") if line.strip()), "")
    return leading_number(line) or " ".join(line.split()).strip(" .,;:!?\"'").casefold() or None


def same(first: str, second: str) -> bool:
    """Whether two answers (without their markers) are equal: as numbers where they are numbers, else as words.

    Whole numbers must agree exactly, others to 1e-9 of their size, because data sets hold results of floating-point sums.
    """
    one, other = canonical(first), canonical(second)
    if one is None or other is None or one == other:
        return one is not None and one == other
    if leading_number(one) != one or leading_number(other) != other or "." not in one + other:
        return False
    return math.isclose(float(one), float(other), rel_tol=_RELATIVE_ERROR)
