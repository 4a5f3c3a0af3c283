"""What Trainer trains is what the pipeline makes."""

import inspect

import torch

import pico_trained
from kvdistill.training.step import StepModel
from kvdistill.training_step import FineTuning


def test_the_pipelines_modules_are_what_trainer_trains() -> None:
    student = pico_trained.student()
    for model in (pico_trained.distillation(student), FineTuning(student)):
        assert isinstance(model, StepModel)
        assert isinstance(model, torch.nn.Module)
        assert model.trained() is student
    assert not isinstance(student, StepModel)


def test_python_3_12_recognizes_them_too() -> None:
    """From 3.12 on, ``isinstance`` finds an interface's members without ``nn.Module.__getattr__``."""
    model = pico_trained.distillation(pico_trained.student())
    declared = {*vars(StepModel), *StepModel.__annotations__}
    members = {name for name in declared if not name.startswith("_") or name == "__call__"}
    assert {"trained", "prepare", "state", "__call__"} <= members
    for name in members:
        inspect.getattr_static(model, name)
