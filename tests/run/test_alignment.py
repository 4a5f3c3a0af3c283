"""Alignment of a run's teachers: when it is fitted, what is a copy, and whose weights are recorded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kvdistill.config import RunConfig
from kvdistill.pipeline import Distillation
from kvdistill.run.adapters import save_adapters
from kvdistill.run.alignment import align_teachers, is_copy, teachers_record
from kvdistill.run.folder import RunState
from kvdistill.run.provenance import record_of
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from kvdistill.target.lower import LowerBridge
from kvdistill.target.methods import Lower
from kvdistill.training.checkpoint import save_extra_state
from pico_students import config, save_base
from pico_teachers import TASK, encoded, live, run, save_teachers

Built = tuple[RunConfig, Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_teachers(tmp_path_factory.mktemp("models"))


def built(
    models: dict[str, Path], folder: Path, teachers: dict[str, dict[str, Any]], **sections: Any
) -> Built:
    told = run(models["base"], folder, teachers, **sections)
    torch.manual_seed(0)
    step = step_model(told, build_student(told))
    assert isinstance(step, Distillation)
    return told, step


def silent(_: str) -> None:
    pass


# When adapters are fitted.


def test_bridges_are_calibrated_unless_their_projector_is_trained(
    models: dict[str, Path], tmp_path: Path
) -> None:
    trained = {"kind": "lift", "projector": "trained"}
    for bridge in ({"kind": "lower"}, {"kind": "lift"}, trained):
        told, step = built(models, tmp_path, {"big": live(models["words"])}, bridge=bridge)
        record = align_teachers(told, step, encoded(step.student, 40), None, silent)
        assert (record is None) == (bridge is trained)
    cot = config(training={"task": "cot"})
    assert align_teachers(cot, step_model(cot, build_student(cot)), (), None, silent) is None


def test_fitted_adapters_are_taken_in_place_of_a_calibration(models: dict[str, Path], tmp_path: Path) -> None:
    """Bit for bit, with the report of their calibration."""
    teachers = {"bytes": live(models["bytes"], layers={"kind": "cka"})}
    told, step = built(models, tmp_path, teachers)
    record = align_teachers(told, step, encoded(step.student, 60), None, silent)
    assert record is not None
    save_adapters(told, step, record, tmp_path / "fitted")
    bridge = {"kind": "lower", "adapters": str(tmp_path / "fitted")}
    taking, other = built(models, tmp_path, teachers, bridge=bridge)
    said: list[str] = []
    # Without samples: nothing can be fitted.
    assert align_teachers(taking, other, (), None, said.append) == record
    assert said == [f"teachers: adapters of {tmp_path / 'fitted'}; nothing is fitted"]
    assert isinstance(other.bridge, LowerBridge)
    assert other.bridge.scale is not None
    found, wanted = other.bridge.state(), step.bridge.state()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    bridge = {"kind": "lower", "adapters": "~/fitted"}
    found = run(Path("base"), tmp_path, {"a": live(Path("x"))}, bridge=bridge).bridge_method
    assert isinstance(found, Lower)
    assert found.adapters == str(tmp_path / "fitted")


def test_a_checkpoint_restores_what_was_fitted(models: dict[str, Path], tmp_path: Path) -> None:
    """Also the measured layer map, which decides how many inputs a map has; nothing is fitted again."""
    teachers = {"bytes": live(models["bytes"], layers={"kind": "cka"})}
    told, step = built(models, tmp_path, teachers)
    samples = encoded(step.student, 60)
    assert align_teachers(told, step, samples, None, silent) is not None
    state = {f"step/{name}": value for name, value in step.state().items()}
    save_extra_state(tmp_path, state, None)
    _, resumed = built(models, tmp_path, teachers)
    assert isinstance(step.bridge, LowerBridge)
    assert isinstance(resumed.bridge, LowerBridge)
    fitted = step.bridge.aligner("bytes").adapter
    assert resumed.bridge.aligner("bytes").adapter.layer_map != fitted.layer_map
    assert align_teachers(told, resumed, (), tmp_path, silent) is None
    restored = resumed.bridge.aligner("bytes").adapter
    assert restored.layer_map == fitted.layer_map
    assert all(map(torch.equal, restored.state_dict().values(), fitted.state_dict().values()))
    assert torch.equal(resumed.bridge.scale, step.bridge.scale)  # pyright: ignore


def test_adapters_trained_on_the_answers_are_part_of_a_checkpoint(
    models: dict[str, Path], tmp_path: Path
) -> None:
    bridge = {"kind": "lower", "calibration_target": "task", "task": {"steps": 5, "batch_size": 8}}
    told, step = built(models, tmp_path, {"words": live(models["words"])}, bridge=bridge)
    said: list[str] = []
    record = align_teachers(told, step, encoded(step.student, 40), None, said.append)
    assert record is not None and record.task is not None and record.task.steps == 5
    assert said[-1].startswith("teachers: adapters trained on the answers for 5 steps, those of step ")
    save_extra_state(tmp_path, {f"step/{name}": value for name, value in step.state().items()}, None)
    _, resumed = built(models, tmp_path, {"words": live(models["words"])}, bridge=bridge)
    # Without samples: nothing can be trained again.
    assert align_teachers(told, resumed, (), tmp_path, silent) is None
    found, wanted = (each.bridge.state() for each in (resumed, step))
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_adapters_of_another_teacher_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    """A checkpoint whose maps have other widths, and one without the teacher."""
    told, step = built(models, tmp_path, {"big": live(models["words"])})
    save_extra_state(tmp_path, {f"step/{name}": value for name, value in step.state().items()}, None)
    with pytest.raises(
        ValueError, match=r": an adapter does not fit its teacher \(.*\)\. Put the .* begin a new run"
    ):
        other, resumed = built(models, tmp_path, {"big": live(models["bytes"])})
        align_teachers(other, resumed, (), tmp_path, silent)
    with pytest.raises(ValueError, match=r"^teachers\.new: \S+ holds no adapter for it.* begin a new run"):
        other, resumed = built(models, tmp_path, {"new": live(models["words"])})
        align_teachers(other, resumed, (), tmp_path, silent)


def test_a_teacher_that_does_not_know_the_text_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    names = [word for word in TASK.words() if word.istitle()]
    few = save_base(tmp_path / "few", [word for word in TASK.words() if word not in names[:3]])
    told, step = built(models, tmp_path, {"few": live(few)})
    with pytest.raises(ValueError, match=r"^teachers\.few: its tokenizer does not know \d\d % of the char"):
        align_teachers(told, step, encoded(step.student, 40), None, silent)


# Copies.


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_copy_has_all_weights_of_the_student(tuning: str, models: dict[str, Path], tmp_path: Path) -> None:
    """Rows that the student's latent tokens add, and low-rank adapters that start at 0, do not count."""
    told, step = built(models, tmp_path, {"twin": live(models["base"])}, model={"tuning": {"kind": tuning}})
    (teacher,) = step.teachers
    backbone = step.student.backbone
    assert is_copy(backbone, teacher.model)
    with torch.no_grad():
        last = list(teacher.model.parameters())[-1]
        last.view(-1)[0] += 1e-3
    assert not is_copy(backbone, teacher.model)


def test_a_student_with_trained_adapters_has_no_copy_in_its_base(
    models: dict[str, Path], tmp_path: Path
) -> None:
    lora = {"tuning": {"kind": "lora", "r": 2}}
    _, step = built(models, tmp_path, {"twin": live(models["base"])}, model=lora)
    (teacher,) = step.teachers
    with torch.no_grad():
        for name, parameter in step.student.backbone.named_parameters():
            parameter.add_(0.1 if "layers.1.mlp.up_proj.lora_B" in name else 0.0)
    assert not is_copy(step.student.backbone, teacher.model)


def test_a_model_of_another_shape_is_no_copy(models: dict[str, Path], tmp_path: Path) -> None:
    _, step = built(models, tmp_path, {name: live(models[name]) for name in ("words", "bytes")})
    assert [is_copy(step.student.backbone, each.model) for each in step.teachers] == [False, False]


def test_identity_is_for_copies_only(models: dict[str, Path], tmp_path: Path) -> None:
    """The same shapes and other weights: refused before anything is read."""
    identity = {"adapter": {"kind": "identity"}}
    told, step = built(models, tmp_path, {"twin": live(models["base"], **identity)})
    record = align_teachers(told, step, encoded(step.student, 8), None, silent)
    assert record is not None
    assert min(each.r2 for each in record.teachers[0].maps) == pytest.approx(1.0, abs=1e-6)
    with torch.no_grad():
        step.teachers[0].model.get_output_embeddings().weight.add_(0.1)
    with pytest.raises(
        ValueError, match=r"^teachers\.twin: adapter identity .*base has other weights than the student: set"
    ):
        align_teachers(told, step, (), None, silent)


# Whose weights.


def test_a_resumed_run_wants_the_teachers_it_was_begun_with(models: dict[str, Path], tmp_path: Path) -> None:
    told, step = built(models, tmp_path, {"big": live(models["words"])})
    start = RunState(tmp_path)
    found = teachers_record(step, None, start)
    assert list(found) == ["big"]
    before = replace(record_of(told, "now", None), teachers=found)
    resumed = RunState(tmp_path, tmp_path / "checkpoint-ep1", False, before)
    assert teachers_record(step, before, resumed) == found
    # Runs that were begun before fingerprints were recorded resume.
    assert teachers_record(step, replace(before, teachers=None), resumed) == found
    with torch.no_grad():
        step.teachers[0].model.get_output_embeddings().weight.add_(0.1)
    with pytest.raises(
        ValueError,
        match=r"^teachers\.big: its weights are not those .* begin a new run from \S*checkpoint-ep1 ",
    ):
        teachers_record(step, before, resumed)
    own = config()
    assert teachers_record(step_model(own, build_student(own)), None, start) == {}
