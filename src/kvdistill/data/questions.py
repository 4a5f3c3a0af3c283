"""Evaluation sets of questions and answers, without chains of thought."""

from dataclasses import dataclass
from typing import Literal

from kvdistill.data.rows import AnswerKind, Row
from kvdistill.text import Example


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Rows with a question, in one or several fields, and an answer.

    The defaults fit GSM-Hard and MultiArith.

    Source: ours; the sets are those of https://arxiv.org/abs/2211.10435 (GSM-Hard),
    https://aclanthology.org/D15-1202 (MultiArith) and https://arxiv.org/abs/2103.07191 (SVAMP:
    ``question=("Body", "Question"), answer="Answer"``).
    """

    kind: Literal["questions"] = "questions"
    question: tuple[str, ...] = ("input",)
    """Fields joined to the question, in order; a full stop is added to each but the last that lacks one of
    ``.?!,`` at its end.
    """
    answer: str = "target"
    """Field of the answer."""
    answers: AnswerKind = "number"

    def example(self, row: Row) -> Example:
        """Convert a row to an example without steps.

        Raises:
            RowError: if a field is missing or of another type.
        """
        *before, last = (row.text(key) for key in self.question)
        return Example(
            question=" ".join((*map(_closed, before), last)),
            steps=(),
            answer=row.answer(self.answer),
            sample_id=row.sample_id,
        )


def _closed(part: str) -> str:
    """A part of a question with a full stop at its end where it has no mark of its own."""
    if part[-1] in ".?!,":
        return part
    return f"{part}."
