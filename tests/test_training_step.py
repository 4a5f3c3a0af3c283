"""The base of what Trainer trains: the student's attributes that Trainer asks for, and empty hooks."""

import pytest

import pico
from kvdistill.training_step import FROM_STUDENT, TrainingStep


def test_trainer_sees_the_student_through_the_step() -> None:
    model = pico.reasoner(slots=2, passes=1)
    step = TrainingStep(model)
    assert step.config is model.config
    assert {"config", "gradient_checkpointing_enable", "_no_split_modules"} <= set(FROM_STUDENT)
    assert step.accepts_loss_kwargs is False
    with pytest.raises(AttributeError, match="generate"):
        step.generate  # noqa: B018


def test_a_step_without_further_state_keeps_none() -> None:
    step = TrainingStep(pico.reasoner(slots=2, passes=1))
    step.prepare([])
    step.load_state({})
    assert (step.state(), step.readers) == ({}, {})
