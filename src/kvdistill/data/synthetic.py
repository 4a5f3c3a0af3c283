"""The generated tasks, and writing their examples as GSM8K rows."""

import json
from collections.abc import Sequence
from pathlib import Path

from kvdistill.data.arith import Arith
from kvdistill.data.chain import Chain
from kvdistill.data.gsm8k import MARKER
from kvdistill.data.rules import Rules
from kvdistill.records.jsonfile import write_atomic
from kvdistill.text import Example

Synthetic = Chain | Arith | Rules

__all__ = ["Arith", "Chain", "Rules", "Synthetic", "write_jsonl"]


def write_jsonl(examples: Sequence[Example], path: Path | str) -> None:
    """Write examples as GSM8K rows, ``{"question": ..., "answer": "step\\nstep\\n#### 72"}``, atomically.

    The teacher's cue is appended to the question; the student's cue is lost, since the format has no field
    for it.

    Args:
        examples: what to write.
        path: the file; missing folders are made.

    Raises:
        ValueError: if a step or an answer holds a line break or ``####``, which separate parts in the format.
    """
    rows = "".join(json.dumps(_row(example), ensure_ascii=False) + "\n" for example in examples)
    write_atomic(Path(path), rows)


def _row(example: Example) -> dict[str, str]:
    for part in (*example.steps, example.answer):
        if "\n" in part or MARKER in part:
            raise ValueError(
                f"Sample {example.sample_id}: {part!r} holds a line break or {MARKER!r}, which a GSM8K row "
                "cannot carry. "
                "Split the step, or keep the data as question, steps and answer."
            )
    question = f"{example.question} {example.teacher_cue}" if example.teacher_cue else example.question
    return {"question": question, "answer": "\n".join((*example.steps, f"{MARKER} {example.answer}"))}
