"""Batches of few shapes: widths by hand, and losses that do not change."""

from pathlib import Path

import pytest
import torch

import pico
import pico_steps
from kvdistill.data.pad_to_multiple import OVERLAPS, pad_to_multiple
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from pico_teachers import encoded, live, run, save_teachers


def test_widths_by_hand() -> None:
    """Segments of 2, 3 and 0 tokens become 4, 4 and 0; steps are -1 where nothing is."""
    row = {
        "question": (10, 11),
        "cue": (),
        "student_cue": (),
        "cot": (20, 21, 22),
        "prompt": (),
        "answer": (2,),
    }
    wide = pad_to_multiple(pico.batch([row]), 4)
    read = wide.teacher_mode
    assert read.question.ids.tolist() == [[10, 11, 0, 0]]
    assert read.question.mask.tolist() == [[True, True, False, False]]
    assert read.prompt.ids.shape == (1, 0)
    assert read.cot.ids.tolist() == [[20, 21, 22, 0]]
    assert read.step[0, 3] == -1
    assert read.spans.shape == (1, 4, 2)
    assert wide.student_mode.question is read.question
    assert wide.student_mode.cot.ids.shape == (1, 0)
    same = pad_to_multiple(wide, 4)
    assert [x.shape for x in same.tensors()] == [x.shape for x in wide.tensors()]


def test_padding_does_not_change_losses_and_gradients() -> None:
    step = pico_steps.distillation(pico_steps.student().double()).eval()
    batch = pico.batch(pico_steps.rows())
    found = []
    for each in (batch, pad_to_multiple(batch, 8)):
        step.zero_grad()
        output = step(each, 0, 1.0)
        output.loss.backward()
        gradient = step.student.backbone.get_input_embeddings().weight.grad.clone()
        found.append((output.metrics, gradient))
    (plain, one), (wide, two) = found
    assert {name: float(x) for name, x in wide.items()} == pytest.approx(
        {name: float(x) for name, x in plain.items()}, rel=1e-6
    )
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


def test_padding_does_not_change_what_other_tokenizers_are_aligned_to(tmp_path: Path) -> None:
    models = save_teachers(tmp_path / "models")
    teachers = {name: live(models[name]) for name in ("words", "bytes")}
    config = run(models["base"], tmp_path / "run", teachers)
    torch.manual_seed(0)
    step = step_model(config, build_student(config)).eval()
    for parameter in step.bridge.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    batch = step.collate(encoded(step.student, 3))
    wide = pad_to_multiple(batch, 8)
    assert wide.alignments["bytes"].index.shape[1] % 8 == 0
    assert wide.alignments["bytes"].index.shape[2] % OVERLAPS == 0
    with torch.no_grad():
        plain, padded = step(batch, 0, 1.0).metrics, step(wide, 0, 1.0).metrics
    assert {name: float(x) for name, x in padded.items()} == pytest.approx(
        {name: float(x) for name, x in plain.items()}, rel=1e-4
    )
