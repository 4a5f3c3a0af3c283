"""Rows whose steps are a list: equation-only GSM8K, ProsQA and the like."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kvdistill.data.rows import AnswerKind, DataError, Row, read_rows, to_examples
from kvdistill.text import Example


@dataclass(frozen=True, kw_only=True)
class StepsJson:
    """Rows ``{"question": ..., "steps": [...], "answer": ...}``, as JSON lines or as one JSON list; a row may have no step.

    Source: https://arxiv.org/abs/2412.06769, section 4.1 (the form in which that work keeps its data).
    """

    kind: Literal["steps_json"] = "steps_json"
    answers: AnswerKind = "auto"

    def read(self, path: Path | str) -> list[Example]:
        """Every row of the file as an example.

        Raises:
            DataError: if the file or a row is malformed; the message names file, line and remedy.
        """
        return to_examples(read_rows(path), _example, self.answers)


def _example(row: Row) -> Example:
    steps = row.fields.get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise DataError(f"{row.where}: 'steps' is not a list of texts. Write [\"first step\", ...], or [] where there is none.")
    kept = tuple(step.strip() for step in steps if step.strip())
    return Example(question=row.text("question"), steps=kept, answer=row.answer("answer"), sample_id=row.sample_id)
