"""The cosine of the attention output: 1 for the student's own cache, by hand the mean over samples."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kvdistill.pipeline import Distillation
from kvdistill.run import output_cosine
from kvdistill.run.output_cosine import attention_cosines
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from pico_teachers import batch_of, encoded, live, run


@pytest.fixture
def step(base_folder: Path, tmp_path: Path) -> Distillation:
    """A student with a frozen copy as teacher, whose cache is taken as it is."""
    teachers = {"copy": live(base_folder, adapter={"kind": "identity"})}
    config = run(base_folder, tmp_path, teachers)
    found = step_model(config, build_student(config))
    assert isinstance(found, Distillation)
    return found.eval()


def test_a_copy_has_cosine_1(step: Distillation) -> None:
    samples = encoded(step.student)
    batches = [batch_of(step, samples[:4]), batch_of(step, samples[4:])]
    with torch.no_grad():
        found = attention_cosines(step, batches)
    assert found == {"copy": pytest.approx([1.0, 1.0], abs=1e-5)}
    assert attention_cosines(step, []) == {}


def test_the_mean_leaves_out_what_measures_nothing(
    step: Distillation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layer 0: the mean of 0.2, 0.4 and 0.9 over both batches; layer 1: one sample of three; 2: none."""
    nan = math.nan
    parts = iter([torch.tensor([[0.2, nan, nan], [0.4, 0.5, nan]]), torch.tensor([[0.9, nan, nan]])])

    def next_part(*_: object) -> Tensor:
        return next(parts)

    monkeypatch.setattr(output_cosine, "attention_output_cosine", next_part)
    samples = encoded(step.student)
    with torch.no_grad():
        found = attention_cosines(step, [batch_of(step, samples[:2]), batch_of(step, samples[2:3])])
    assert found == {"copy": [pytest.approx(0.5), pytest.approx(0.5), None]}
