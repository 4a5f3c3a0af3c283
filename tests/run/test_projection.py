"""Projectors that are fitted before the first step: exact on the student's own cache, fixed from then on."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kvdistill.config import RunConfig
from kvdistill.pipeline import Distillation
from kvdistill.records.calibration import CALIBRATION, CalibrationRecord
from kvdistill.run.alignment import align_teachers
from kvdistill.run.samples import Samples
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from kvdistill.run.train import train
from kvdistill.target import LiftBridge
from kvdistill.training.checkpoint import newest_checkpoint
from pico_students import batch_for, on, save_base

DATA = {"train": {"kind": "synthetic", "num": 40, "task": {"names": 5, "steps": 2}}}


def lifted(
    base: Path, folder: Path, teachers: dict[str, Any], **bridge: Any
) -> tuple[RunConfig, Distillation, Any]:
    """Configuration, step and report of the fit."""
    bridge = {"kind": "lift"} | bridge
    run = on({"name": str(base)}, data=DATA, teachers=teachers, bridge=bridge)
    model = build_student(run)
    step = step_model(run, model)
    assert isinstance(step, Distillation)
    samples = Samples(run.data, model, folder).read(run.data.train, "train")
    return run, step, align_teachers(run, step, samples, None, lambda _: None)


def test_the_students_own_cache_is_projected_to_itself(base_folder: Path, tmp_path: Path) -> None:
    _, step, record = lifted(base_folder, tmp_path, {"self": {"kind": "own"}})
    assert isinstance(step.bridge, LiftBridge)
    projector = step.bridge.projector("self")
    own = step.student.eval()(batch_for(step.student)).teacher.kv
    for ours, moved in zip(own.layers, projector.move(own).layers, strict=True):
        valid = ours.mask[..., None]
        torch.testing.assert_close(moved.keys * valid, ours.keys * valid, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(moved.values * valid, ours.values * valid, atol=1e-4, rtol=1e-4)
    assert [each.r2 for each in record.teachers[0].maps] == [pytest.approx(1.0)] * 4
    assert not any(parameter.requires_grad for parameter in projector.parameters())


def test_a_trained_projector_is_not_fitted(base_folder: Path, tmp_path: Path) -> None:
    _, step, record = lifted(base_folder, tmp_path, {"self": {"kind": "own"}}, projector="trained")
    assert record is None
    assert isinstance(step.bridge, LiftBridge)
    assert all(parameter.requires_grad for parameter in step.bridge.parameters())


def test_a_run_keeps_its_fitted_projector(base_folder: Path, tmp_path: Path) -> None:
    """Training leaves the map as it was fitted, and a run that resumes restores it."""
    shape = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 3}
    save_base(tmp_path / "big", **shape)
    teachers = {"big": {"kind": "live", "name": str(tmp_path / "big")}}
    bridge = {"kind": "lift"}
    options = {"output_dir": str(tmp_path / "run"), "batch_size": 4, "report": False, "max_steps": 2}
    sections = {"data": DATA, "teachers": teachers, "bridge": bridge, "training": options}
    run = on({"name": str(base_folder)}, **sections)
    checkpoint = newest_checkpoint(train(run).folder)
    assert checkpoint is not None
    record = CalibrationRecord.read(tmp_path / "run" / CALIBRATION)
    assert [each.teacher_layers for each in record.teachers[0].maps] == [[0], [0], [2], [2]]
    assert record.teachers[0].covered == 1.0
    # A fit of its own from the same start is what the run has kept.
    _, fresh, _ = lifted(base_folder, tmp_path, teachers)
    resumed = step_model(run, build_student(run))
    assert align_teachers(run, resumed, None, checkpoint, lambda _: None) is None
    assert isinstance(resumed, Distillation)
    assert "big/projector/keys.0.bias" in resumed.bridge.state()
    for name, value in resumed.bridge.state().items():
        torch.testing.assert_close(value, fresh.bridge.state()[name])
    assert not any(parameter.requires_grad for parameter in resumed.bridge.parameters())


def test_too_little_text_is_refused_with_what_to_do(base_folder: Path, tmp_path: Path) -> None:
    run = on({"name": str(base_folder)}, teachers={"self": {"kind": "own"}}, bridge={"kind": "lift"})
    model = build_student(run)
    samples = Samples(run.data, model, tmp_path).read(run.data.train, "train")[:1]
    with pytest.raises(ValueError, match=r"teachers.self: too few .* set bridge.projector to trained"):
        align_teachers(run, step_model(run, model), samples, None, lambda _: None)
