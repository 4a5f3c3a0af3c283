"""Evaluation sets without a chain of thought: a question and its answer."""

from dataclasses import dataclass
from typing import Literal

from kvdistill.data.rows import AnswerKind, Row
from kvdistill.text import Example


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Rows with a question, perhaps in several fields, and an answer; the defaults fit GSM-Hard and
    MultiArith.

    Source: ours; the sets are those of https://arxiv.org/abs/2211.10435 (GSM-Hard),
    https://aclanthology.org/D15-1202 (MultiArith) and https://arxiv.org/abs/2103.07191 (SVAMP:
    ``question=("Body", "Question"), answer="Answer"``).
    """

    kind: Literal["questions"] = "questions"
    question: tuple[str, ...] = ("input",)
    """Fields that make up the question, in order; each but the last is closed by a full stop where it has
    none.
    """
    answer: str = "target"
    answers: AnswerKind = "number"

    def example(self, row: Row) -> Example:
        """The example, without steps, that a row holds.

        Raises:
            RowError: if a field is missing or not what it should be.
        """
        *before, last = (row.text(key) for key in self.question)
        closed = [part if part[-1] in ".?!," else f"{part}." for part in before]
        return Example(
            question=" ".join((*closed, last)),
            steps=(),
            answer=row.answer(self.answer),
            sample_id=row.sample_id,
        )
