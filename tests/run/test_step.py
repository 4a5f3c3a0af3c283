"""From a configuration to what Trainer trains."""

import pytest

from kvdistill.compress import Full
from kvdistill.pipeline import Distillation
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from kvdistill.target import LiftBridge, SameBridge
from kvdistill.training_step import FineTuning
from pico_students import config


def test_the_step_holds_what_the_options_say() -> None:
    run = config(
        latent={"delimiters": "both", "slots": 5, "passes": 2},
        target={"anneal_layers": 0.25, "control": {"kind": "other_sample"}},
        loss={"codi_weight": 20, "kv": {"distance": "smooth_l1"}},
    )
    step = step_model(run, build_student(run))
    assert isinstance(step, Distillation)
    assert isinstance(step.bridge, SameBridge)
    (builder,) = step.bridge.builders.values()
    assert (builder.slots, builder.control.kind) == (5, "other_sample")
    assert step.settings.anneal_layers == 0.25
    assert (step.objective.codi_weight, step.objective.kv.distance) == (20, "smooth_l1")
    assert step.student.config.delimiters == "both"


def test_the_axis_of_the_loss_is_the_compressors() -> None:
    run = config(target={"method": {"kind": "full"}})
    step = step_model(run, build_student(run))
    assert isinstance(step, Distillation)
    assert step.objective.kv.axis == "tokens"
    assert Full.keeps_tokens


@pytest.mark.parametrize("task", ["cot", "direct"])
def test_other_tasks_fine_tune(task: str) -> None:
    run = config(training={"task": task})
    assert isinstance(step_model(run, build_student(run)), FineTuning)


def test_own_teachers_may_be_lifted_too() -> None:
    run = config(teachers={"self": {"kind": "own"}}, bridge={"kind": "lift"})
    step = step_model(run, build_student(run))
    assert isinstance(step, Distillation)
    assert isinstance(step.bridge, LiftBridge)
    assert [teacher.name for teacher in step.teachers] == ["self"]
