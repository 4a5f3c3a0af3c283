"""Rows with a list of reasoning steps: equation-only GSM8K, ProsQA and similar sets."""

from dataclasses import dataclass
from typing import Literal

from kvdistill.data.rows import AnswerKind, Row, RowError, readable
from kvdistill.text import Example


@dataclass(frozen=True, kw_only=True)
class StepsJson:
    """Rows ``{"question": ..., "steps": [...], "answer": ...}``; the list of steps may be empty.

    Source: https://arxiv.org/abs/2412.06769, section 4.1 (the form in which that work keeps its data).
    """

    kind: Literal["steps_json"] = "steps_json"
    answers: AnswerKind = "auto"

    def example(self, row: Row) -> Example:
        """Convert a row to an example; blank steps are left out.

        Raises:
            RowError: if a field is missing or of another type.
        """
        steps = row.fields.get("steps")
        if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
            raise RowError(
                "'steps' is not a list of texts. Write [\"first step\", ...], or [] where there is none."
            )
        kept = tuple(step for step in (readable(step, "steps") for step in steps) if step)
        return Example(
            question=row.text("question"), steps=kept, answer=row.answer("answer"), sample_id=row.sample_id
        )
