"""Competence tables and runs for tests of routing: two tiny teachers, one of them good at each question."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kvdistill.data import Chain
from kvdistill.data.keys import question_key
from kvdistill.records.competence import CompetenceTable, Figures
from kvdistill.run.routing import KnownCompetence
from kvdistill.text import Example

NAMES = ("a", "b")


def table(examples: Sequence[Example], best: Callable[[Example], int] = lambda _: 0) -> CompetenceTable:
    """A table of teachers ``a`` and ``b``; ``best`` gives the index of the better one."""
    figures = {}
    for example in examples:
        good = best(example)
        nats = [0.1 if index == good else 2.0 for index in range(2)]
        figures[question_key(example)] = {
            name: Figures(cot_nats=each) for name, each in zip(NAMES, nats, strict=True)
        }
    return CompetenceTable({"a": "", "b": ""}, figures, {"questions": len(figures)})


def known(examples: Sequence[Example], best: Callable[[Example], int] = lambda _: 0) -> KnownCompetence:
    """What the loader asks for the competence of an example."""
    return KnownCompetence(table(examples, best), NAMES)


def fusion(kind: str, **options: Any) -> dict[str, Any]:
    """A section ``[fusion]``; its table need not exist."""
    return {"kind": kind, "competence": "competence.jsonl", **options}


def examples(num: int, task: Chain | None = None) -> list[Example]:
    """Questions of the task of ``pico_teachers``."""
    return list((task or Chain(names=5, steps=4)).make(num, "train", 0))


def path_of(folder: Path) -> Path:
    """Where a test writes a table."""
    return folder / "competence.jsonl"
