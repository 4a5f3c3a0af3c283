"""The starting student of a run: routing that stays with a student that drifts, and resumed runs."""

from pathlib import Path
from typing import Any

import pytest
import torch

import pico_routing
import pico_teachers
from kvdistill.data import Chain, encode_all
from kvdistill.pipeline import Distillation
from kvdistill.run.routing import KnownCompetence, RouteFit
from kvdistill.run.starting import START, restore_start, write_start
from kvdistill.run.step import step_model
from kvdistill.run.student import starting_student, template_of
from kvdistill.text import Batch, Example
from pico_teachers import live, run

FIT, HELD_OUT = 96, 48


def questions(num: int, seed: int) -> list[Example]:
    """Questions of two depths in turns."""
    tasks = (Chain(names=5, steps=1), Chain(names=5, steps=4))
    pairs = zip(*(list(task.make(num // 2, "train", seed)) for task in tasks), strict=True)
    return [example for pair in pairs for example in pair]


def area(scores: torch.Tensor) -> float:
    """Area under the ROC curve of the shallow questions, which are every second one."""
    return float((scores[::2, None] > scores[None, 1::2]).double().mean())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return pico_teachers.save_teachers(tmp_path_factory.mktemp("starting"))


def fitted(base: dict[str, Path], folder: Path, query: str) -> tuple[Distillation, Any, Batch]:
    """A step whose first teacher is good at shallow questions, and held-out questions as a batch."""
    teachers = {"a": live(base["words"]), "b": live(base["words"])}
    fusion = pico_routing.fusion("similarity", query=query)
    config = run(base["base"], folder / "run", teachers, fusion=fusion)
    torch.manual_seed(0)
    step = step_model(config, starting_student(config))
    shallow = questions(FIT, 0)
    depths = {example.question: index % 2 for index, example in enumerate(shallow)}
    table = pico_routing.table(shallow, lambda example: depths[example.question])
    assert isinstance(step, Distillation)
    step.competence = KnownCompetence(table, pico_routing.NAMES)
    tokenizer, template = step.student.tokenizer, template_of(step.student)
    assert tokenizer is not None
    fit, held_out = (
        encode_all(each, tokenizer, template).samples for each in (shallow, questions(HELD_OUT, 1))
    )
    RouteFit(config, step, fit).run()
    return step, fit, step.collate(held_out)


def test_similarity_stays_with_a_student_that_drifts(base: dict[str, Path], tmp_path: Path) -> None:
    """The same training moves the student's own keys away from the prototypes that they made."""
    found = {}
    for query in ("start", "current"):
        step, samples, batch = fitted(base, tmp_path, query)
        areas = []
        for steps in (0, 12):
            optimizer = torch.optim.Adam(step.student.parameters(), 0.02)
            for index in range(steps):
                loss = step(step.collate(samples[8 * index : 8 * index + 8]), index, 0.0).loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                _, (merged,) = step.merged(batch, step.outputs_of(batch))
            assert merged.routing is not None
            areas.append(area(merged.routing.weights[:, 0]))
        found[query] = areas
    assert found["start"][0] == found["current"][0] > 0.9
    assert found["start"][1] == found["start"][0]
    assert found["current"][1] < 0.8


def test_a_resumed_run_reads_the_student_that_it_started_from(base: dict[str, Path], tmp_path: Path) -> None:
    step, _, batch = fitted(base, tmp_path, "start")
    assert step.start is not None
    write_start(step.start, tmp_path)
    before = step.start.vectors(batch)
    with torch.no_grad():
        for each in step.student.parameters():
            each.add_(0.1 * torch.randn_like(each))
    restore_start(step, tmp_path)
    assert torch.equal(step.start.vectors(batch), before)
    (tmp_path / START).unlink()
    with pytest.raises(ValueError, match=f"{START} is not the starting student.*begin a new run"):
        restore_start(step, tmp_path)
