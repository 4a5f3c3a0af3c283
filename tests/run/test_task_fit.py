"""Adapters trained by the answer's cross-entropy: a planted bad start, what is frozen, two processes."""

import threading
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import pico_trained
from kvdistill.align import Adapter, AdapterMethod, Identity, Ridge
from kvdistill.align.aligner import Aligner
from kvdistill.align.layer_map import Ratio
from kvdistill.capture.attention import evaluating
from kvdistill.compress import StepEnd
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.pipeline import Distillation
from kvdistill.records.calibration import CalibrationRecord, TaskFitRecord
from kvdistill.run import task_fit
from kvdistill.run.calibration import Calibrator, described
from kvdistill.run.gathering import chosen_samples
from kvdistill.run.task_fit import TaskFit
from kvdistill.target import NoControl, TargetBuilder
from kvdistill.target.lower import LowerBridge
from kvdistill.target.methods import TaskCalibration
from kvdistill.teacher import CausalLMTeacher
from kvdistill.text import Encoded
from kvdistill.training.ranks import Ranks

SHRUNK = Ridge(penalties=(100.0,))
"""A penalty of a hundred times the variance: the maps are nearly constant."""
FAST = TaskCalibration(steps=15, learning_rate=0.1)


def step_of(student: LatentReasoner, methods: dict[str, AdapterMethod]) -> Distillation:
    """A step whose teachers are copies of the student, by name with the method of their adapter."""
    ours, aligners, teachers = student.geometry(), {}, []
    for name, method in methods.items():
        model = deepcopy(student.backbone)
        teachers.append(CausalLMTeacher(model, name, student.special[:2], name))
        aligners[name] = Aligner(Adapter(ours, ours, Ratio().pair(ours, ours), method))
    builder = TargetBuilder(StepEnd(), NoControl(), student.config.slots)
    bridge = LowerBridge(builder, aligners, dict.fromkeys(aligners, 1.0), ours)
    return Distillation(student, teachers, bridge, pico_trained.OBJECTIVE)


def calibrated(
    step: Distillation, samples: Sequence[Encoded], task: TaskCalibration | None, ranks: Ranks | None = None
) -> CalibrationRecord:
    selectors: dict[str, Any] = {teacher.name: Ratio() for teacher in step.teachers}
    return Calibrator(step, selectors, ranks or Ranks(), lambda _: None, task).run(samples)


def maps(step: Distillation, name: str = "copy") -> list[Tensor]:
    assert isinstance(step.bridge, LowerBridge)
    return [value.clone() for value in step.bridge.aligner(name).state_dict().values()]


@pytest.fixture(scope="module")
def student() -> LatentReasoner:
    """It answers right, and only from its slots."""
    return pico_trained.trained()


@pytest.fixture(scope="module")
def samples(student: LatentReasoner) -> list[Encoded]:
    """All questions twice: tokens in all three parts."""
    found = pico_trained.samples(student)
    twice = [replace(each, sample_id=f"{n}/{each.sample_id}") for n in range(2) for each in found]
    return chosen_samples(twice, 0)


@pytest.fixture(scope="module")
def mended(student: LatentReasoner, samples: list[Encoded]) -> tuple[Distillation, CalibrationRecord]:
    """A step whose ridge was bad, trained on the answers."""
    step = step_of(student, {"copy": SHRUNK})
    step.train()
    return step, calibrated(step, samples, FAST)


def test_a_bad_ridge_is_mended_by_the_answers(mended: Any) -> None:
    """Nearly constant targets answer at chance (1 in 6) or little more."""
    task = mended[1].task
    assert (task.teachers, task.steps) == (["copy"], 15)
    assert task.before.accuracy < 0.5
    assert task.after.accuracy > 0.9
    assert task.after.nats > task.before.nats + 1
    steps, values = zip(*task.held_out, strict=True)
    assert steps == (0, 5, 10, 15)
    assert steps[values.index(max(values))] == task.kept > 0
    # The utility of the report is that of the adapters that are kept.
    assert next(each for each in mended[1].targets if each.target == "fused") == task.after


def test_adapters_and_student_are_frozen_afterwards(mended: Any) -> None:
    step, before = mended[0], pico_trained.trained().state_dict()
    assert step.training
    assert not step.bridge.learns
    assert all(torch.equal(before[name], value) for name, value in step.student.state_dict().items())
    assert all(parameter.grad is None for parameter in step.parameters())


def test_the_report_has_the_r2_of_the_trained_maps(mended: Any) -> None:
    """The ridge of a penalty of 100 explains about 1 - (100 / 101)^2 = 2 % and never less than nothing."""
    (found,) = mended[1].teachers
    assert [each.penalty for each in found.maps] == [100.0] * 4
    assert min(each.r2 for each in found.maps) < -0.1


def test_the_ridge_is_kept_where_nothing_is_better(student: Any, samples: Any) -> None:
    """Steps of a thousand times a map's own size destroy it; training ends after four measurements."""
    step = step_of(student, {"copy": Ridge()})
    calibrated(step, samples[:40], None)
    before = maps(step)
    calibrator = Calibrator(step, {}, Ranks(), lambda _: None)
    settings = TaskCalibration(steps=50, learning_rate=1000.0)
    with evaluating(step):
        task = TaskFit(step, calibrator._targets(False)["fused"], settings, Ranks()).run(samples[:40])
    assert (task.kept, task.steps) == (0, task_fit.EVERY * task_fit.PATIENCE)
    assert all(map(torch.equal, before, maps(step)))


def test_only_fitted_adapters_are_trained(student: Any, samples: Any) -> None:
    step = step_of(student, {"copy": SHRUNK, "own": Identity()})
    fit = TaskFit(step, lambda batch: student(batch, "cot").kv, FAST, Ranks())
    assert fit.teachers == ["copy"]
    # Keys and values of two layers, each with weight and bias.
    assert len(fit.parameters) == 8


def test_a_step_is_a_share_of_each_tensors_size(student: Any) -> None:
    """The weights 3 and 4 have a root mean square of sqrt(12.5)."""
    step = step_of(student, {"copy": Ridge()})
    fit = TaskFit(step, lambda batch: student(batch, "cot").kv, TaskCalibration(learning_rate=0.1), Ranks())
    with torch.no_grad():
        fit.parameters[0].zero_()[:, ::2] = 3.0
        fit.parameters[0][:, 1::2] = 4.0
    groups = fit._groups()
    assert groups[0]["lr"] == pytest.approx(0.1 * 12.5**0.5)
    assert groups[1]["lr"] == 0.0


def test_samples_come_around_again(student: Any, samples: Any) -> None:
    step = step_of(student, {"copy": Ridge()})
    fit = TaskFit(step, lambda batch: student(batch, "cot").kv, TaskCalibration(batch_size=3), Ranks())
    numbers = [[samples.index(each) for each in fit._batch_of(samples[:5], n)] for n in range(3)]
    assert numbers == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]
    assert [samples.index(each) for each in fit._batch_of(samples[:2], 1)] == [0, 1]


@dataclass(frozen=True)
class _Threads(Ranks):
    """A process of two that are threads; both add their tensors in the order of their ranks."""

    size: int = 2
    barrier: Any = None
    shared: Any = None

    def sum(self, values: Tensor) -> Tensor:
        self.shared[self.rank] = values.detach().clone()
        self.barrier.wait()
        total = self.shared[0] + self.shared[1]
        self.barrier.wait()
        return total


def test_two_processes_are_one(student: Any, samples: Any) -> None:
    """Ridge adapters are fitted and trained on halves of the samples, with sums between."""
    settings = TaskCalibration(steps=5, learning_rate=0.05, batch_size=9)
    one = step_of(student, {"copy": SHRUNK})
    alone = calibrated(one, samples[:40], settings).task
    both = [step_of(deepcopy(student), {"copy": SHRUNK}) for _ in range(2)]
    ranks = [_Threads(rank, barrier=threading.Barrier(2, timeout=60), shared={}) for rank in range(2)]
    ranks[1] = replace(ranks[1], barrier=ranks[0].barrier, shared=ranks[0].shared)
    found: dict[int, TaskFitRecord | None] = {}

    def work(rank: int) -> None:
        found[rank] = calibrated(both[rank], samples[:40], settings, ranks[rank]).task

    threads = [threading.Thread(target=partial(work, rank)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert alone is not None and found[0] is not None and found[0] == found[1]
    assert all(map(torch.equal, maps(both[0]), maps(both[1])))
    for ours, theirs in zip(alone.held_out, found[0].held_out, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-3)
    for ours, theirs in zip(maps(one), maps(both[0]), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3)


def test_it_is_said_in_one_line() -> None:
    record = TaskFitRecord(teachers=["a"], steps=1, kept=0, held_out=[[0.0, -1.0], [1.0, -2.0]])
    assert described(record) == (
        "teachers: adapters trained on the answers for 1 step, those of step 0 are kept"
    )


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}])
def test_settings_without_a_step_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^bridge\.task\S* .*choose (1 or more|a rate above 0)"):
        TaskCalibration(**wrong)
