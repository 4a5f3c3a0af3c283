"""GSM8K's own form: the chain of thought and the answer in one text."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kvdistill.data.rows import AnswerKind, DataError, Row, read_rows, to_examples
from kvdistill.text import Example

MARKER = "####"

_ANNOTATION = re.compile(r"<<[^<>]*>>")


@dataclass(frozen=True, kw_only=True)
class Gsm8k:
    """Rows ``{"question": ..., "answer": "step\\nstep\\n#### 72"}``; each line of the answer is a step.

    Source: https://arxiv.org/abs/2110.14168, section 2.
    """

    kind: Literal["gsm8k"] = "gsm8k"
    annotations: Literal["keep", "strip"] = "keep"
    """Whether the calculator annotations ``<<48/2=24>>`` stay in the steps."""
    answers: AnswerKind = "auto"

    def read(self, path: Path | str) -> list[Example]:
        """Every row of the file as an example.

        Raises:
            DataError: if the file or a row is malformed; the message names file, line and remedy.
        """
        return to_examples(read_rows(path), self._example, self.answers)

    def _example(self, row: Row) -> Example:
        question = row.text("question")
        trace, marker, answer = row.text("answer").rpartition(MARKER)
        if not marker or not answer.strip():
            raise DataError(f"{row.where}: nothing stands after {MARKER!r} in the answer. End the answer with a line '{MARKER} 72'.")
        if self.annotations == "strip":
            trace = _ANNOTATION.sub("", trace)
        steps = tuple(line.strip() for line in trace.split("\n") if line.strip())
        return Example(question=question, steps=steps, answer=answer.strip(), sample_id=row.sample_id)
