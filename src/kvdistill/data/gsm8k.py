"""GSM8K format: chain of thought and answer in one text, separated by ``####``."""

import re
from dataclasses import dataclass
from typing import Literal

from kvdistill.data.rows import AnswerKind, Row, RowError
from kvdistill.text import Example, NamedTrace

MARKER = "####"
"""Precedes the final answer."""

_ANNOTATION = re.compile(r"<<[^<>]*>>")


@dataclass(frozen=True, kw_only=True)
class Gsm8k:
    """Rows ``{"question": ..., "answer": "step\\nstep\\n#### 72"}``; each line of the answer is a step.

    Source: https://arxiv.org/abs/2110.14168, section 2.
    """

    kind: Literal["gsm8k"] = "gsm8k"
    annotations: Literal["keep", "strip"] = "keep"
    """Keep the calculator annotations ``<<48/2=24>>`` in the steps, or strip them."""
    answers: AnswerKind = "auto"

    def example(self, row: Row) -> Example:
        """Convert a row to an example.

        Raises:
            RowError: if a text is missing, or there is no answer after ``####``.
        """
        question = row.text("question")
        trace, answer = split_answer(row.text("answer"))
        traces = traces_of(trace)
        if self.annotations == "strip":
            trace = _ANNOTATION.sub("", trace)
        return Example(
            question=question, steps=_lines(trace), answer=answer, sample_id=row.sample_id, traces=traces
        )


def traces_of(trace: str) -> tuple[NamedTrace, ...]:
    """The two traces of a row: ``words`` without annotations, and ``equations``, which are these alone.

    Args:
        trace: the text before ``####``, one step per line.

    Returns:
        Both, or none where no step has an annotation. A step without one is in ``words`` only.
    """
    equations = "\n".join(" ".join(_ANNOTATION.findall(line)) for line in trace.split("\n"))
    if not equations.strip():
        return ()
    return NamedTrace("words", _lines(_ANNOTATION.sub("", trace))), NamedTrace("equations", _lines(equations))


def _lines(trace: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in trace.split("\n") if line.strip())


def split_answer(text: str) -> tuple[str, str]:
    """Split a text at its last ``####``.

    Returns:
        Chain of thought and answer, without surrounding white space.

    Raises:
        RowError: if there is no ``####``, or nothing after it.
    """
    trace, marker, answer = text.rpartition(MARKER)
    if not marker or not answer.strip():
        what = f"there is nothing after {MARKER!r}" if marker else f"there is no {MARKER!r}"
        raise RowError(f"{what} in the answer. Close the answer with '{MARKER} 72', or remove the row.")
    return trace.strip(), answer.strip()
