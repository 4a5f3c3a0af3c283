"""What Trainer trains is what the pipeline makes."""

import torch

import pico_trained
from kvdistill.training.step import StepModel
from kvdistill.training_step import FineTuning


def test_the_pipelines_modules_are_what_trainer_trains() -> None:
    student = pico_trained.student()
    for model in (pico_trained.distillation(student), FineTuning(student)):
        assert isinstance(model, StepModel)
        assert isinstance(model, torch.nn.Module)
        assert model.student is student
    assert not isinstance(student, StepModel)
