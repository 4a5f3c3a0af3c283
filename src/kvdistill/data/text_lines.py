"""Lines of text: ``question||chain of thought #### answer``, the format of GSM8k-Aug files."""

import re
from dataclasses import dataclass
from typing import Literal

from kvdistill.data.gsm8k import split_answer
from kvdistill.data.rows import AnswerKind, Row, RowError
from kvdistill.text import Example

MARK = "||"
"""Separates the question from the chain of thought."""

_EQUATION = re.compile(r"<<[^<>]*>>")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[MD]r\.)(?<!\bMrs\.)(?<!\bMs\.)\s+(?![a-z])")


@dataclass(frozen=True, kw_only=True)
class TextLines:
    """Lines ``question||chain of thought #### answer``; the chain may be empty.

    A chain of equations ``<<48/2=24>>`` alone is split into these, any other into sentences. A sentence ends
    with ``.``, ``!`` or ``?`` before white space that no lower-case letter follows (so ``8 p.m. to 10`` is
    not split), and not after ``Mr.``, ``Mrs.``, ``Ms.`` or ``Dr.``.

    Source: https://arxiv.org/abs/2405.14838 (the form in which that work keeps GSM8k-Aug). Differs: sentences
    are ours.
    """

    kind: Literal["text"] = "text"
    answers: AnswerKind = "auto"

    def example(self, row: Row) -> Example:
        """Convert a row to an example.

        Raises:
            RowError: if a separator is missing, ``||`` occurs twice, or there is no question or answer.
        """
        parts = row.text("text").split(MARK)
        if len(parts) != 2:
            raise RowError(
                f"the line holds {MARK!r} {len(parts) - 1} times. Write it once, between question and chain "
                "of thought, or remove the row."
            )
        question = parts[0].strip()
        if not question:
            raise RowError(f"there is no question before {MARK!r}. Write it, or remove the row.")
        trace, answer = split_answer(parts[1])
        steps = tuple(_EQUATION.findall(trace))
        if _EQUATION.sub("", trace).strip():  # not equations alone
            steps = tuple(_SENTENCE_END.split(trace))
        return Example(question=question, steps=steps, answer=answer, sample_id=row.sample_id)
