"""Competence tables and runs for tests of routing: two tiny teachers, one of them good at each question."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from kvdistill.config import RunConfig
from kvdistill.data import Chain
from kvdistill.data.keys import question_key
from kvdistill.records.competence import CompetenceTable, Figures, competence_row
from kvdistill.run.routing import KnownCompetence, fit_routing, set_competence
from kvdistill.run.samples import Samples
from kvdistill.run.step import step_model
from kvdistill.run.student import starting_student
from kvdistill.text import Example
from pico_teachers import NUM, TASK, live, run

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


def examples(num: int, task: Chain = TASK) -> list[Example]:
    """Questions of the task of ``pico_teachers``."""
    return task.make(num, "train", 0)


def path_of(folder: Path) -> Path:
    """Where a test writes a table."""
    return folder / "competence.jsonl"


def better(example: Example) -> int:
    """Which teacher of the tables on disk is the better one: it depends on who holds the parcel at first."""
    start = example.question.split()[-4]
    return int(start in ("Ann", "Bob"))


def save_table(
    folder: Path, questions: Sequence[Example] | None = None, names: tuple[str, ...] = NAMES
) -> Path:
    """A table on disk, of the training questions of ``pico_teachers`` or of others."""
    path = path_of(folder)
    found = table(questions or examples(NUM), better)
    header = {"version": 1, "teachers": dict.fromkeys(names, ""), "questions": len(found.figures)}
    rows = [
        competence_row(key, name, each)
        for key, by_teacher in found.figures.items()
        for name, each in zip(names, by_teacher.values(), strict=True)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *rows]))
    return path


def config_of(models: dict[str, Path], folder: Path, fusion: dict[str, Any], **sections: Any) -> RunConfig:
    """A run with two unlike teachers ``a`` and ``b``."""
    teachers = {"a": live(models["words"]), "b": live(models["bytes"])}
    table = {"competence": str(path_of(folder))}
    if fusion["kind"] in ("draw", "fixed"):
        table = {}
    return run(models["base"], folder / "run", teachers, fusion={**table, **fusion}, **sections)


def prepared(config: RunConfig) -> tuple[Any, Any]:
    """A step whose fusion has been fitted, and the training samples."""
    torch.manual_seed(0)
    student = starting_student(config)
    samples = Samples(config.data, student, Path(config.training.output_dir)).read(config.data.train)
    step = step_model(config, student)
    set_competence(config, step)
    fit_routing(config, step, samples, None)
    return step, samples
