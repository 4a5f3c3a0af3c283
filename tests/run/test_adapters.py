"""Fitted adapters on disk: what they are refused for, and that nothing half-written is taken for complete."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kvdistill.pipeline import Distillation
from kvdistill.records.calibration import CalibrationRecord, TeacherCalibration
from kvdistill.records.utility import TargetUtility
from kvdistill.run.adapters import (
    ADAPTERS,
    belongs,
    difference,
    hash_of,
    load_adapters,
    read_adapters,
    save_adapters,
    shape_of,
    student_of,
)
from kvdistill.run.alignment import align_teachers
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from kvdistill.target.lower import LowerBridge
from pico_align import geometry
from pico_students import save_base
from pico_teachers import encoded, live, run


def told(name: str) -> TeacherCalibration:
    return TeacherCalibration(
        teacher=name,
        source=name,
        weight=1.0,
        steps=[],
        covered=1.0,
        tokens={},
        maps=[],
        memory=1,
        seconds=1.0,
    )


class Saved:
    """Two teachers of one base model, with adapters of random weights."""

    def __init__(self, folder: Path, base: Path, other: Path) -> None:
        self.folder, self.base, self.other, self.output = folder / "fitted", base, other, folder / "run"
        self.teachers = {"a": live(base), "b": live(other)}
        step = self.step(self.teachers)
        assert isinstance(step.bridge, LowerBridge)
        with torch.no_grad():
            for parameter in step.bridge.aligners.parameters():
                parameter.normal_()
        step.bridge.scale = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        self.state = step.bridge.state()
        targets = [TargetUtility(target="fused", num=2, correct=1, nats=-1.0)]
        record = CalibrationRecord(samples=3, teachers=[told("a"), told("b")], targets=targets)
        save_adapters(self.config(self.teachers), step, record, self.folder)

    def config(self, teachers: dict[str, dict[str, Any]]) -> Any:
        return run(self.base, self.output, teachers)

    def step(self, teachers: dict[str, dict[str, Any]], seed: int = 0) -> Distillation:
        torch.manual_seed(seed)
        config = self.config(teachers)
        found = step_model(config, build_student(config))
        assert isinstance(found, Distillation)
        return found

    def load(self, teachers: dict[str, dict[str, Any]]) -> tuple[Distillation, CalibrationRecord]:
        step = self.step(teachers)
        return step, load_adapters(self.config(teachers), step, self.folder)


@pytest.fixture(scope="module")
def others(session_tmp: Path) -> dict[str, Path]:
    """Further models: other weights of one shape, and another shape."""
    wide = {"hidden_size": 48, "num_attention_heads": 4}
    return {
        "other": save_base(session_tmp / "adapters_other", initializer_range=0.3),
        "wide": save_base(session_tmp / "adapters_wide", **wide),
    }


@pytest.fixture
def saved(base_folder: Path, others: dict[str, Path], tmp_path: Path) -> Saved:
    return Saved(tmp_path, base_folder, others["other"])


def test_they_come_back_bit_for_bit(saved: Saved) -> None:
    step, record = saved.load(saved.teachers)
    found = step.bridge.state()
    assert found.keys() == saved.state.keys()
    assert all(torch.equal(found[name], value) for name, value in saved.state.items())
    assert record.targets is not None and len(record.teachers) == 2
    assert not [name for name in load_file(saved.folder / ADAPTERS) if name.startswith("fused")]


def test_an_option_that_earlier_files_lack_is_left_out_at_its_default(saved: Saved) -> None:
    for teacher in read_adapters(saved.folder)[1]["teachers"].values():
        assert teacher["option adapter"].keys() == {"kind", "penalties"}


def test_one_of_the_teachers_may_be_left_out(saved: Saved) -> None:
    step, record = saved.load({"b": saved.teachers["b"]})
    for name, value in step.bridge.state().items():
        assert torch.equal(value, saved.state[name]), name
    assert [each.teacher for each in record.teachers] == ["b"]
    assert record.targets is None, "their targets are of both"


def test_another_pair_is_refused(saved: Saved, others: dict[str, Path]) -> None:
    a, b = saved.teachers["a"], saved.teachers["b"]
    for teachers, message in (
        ({"a": a, "c": b}, r"holds no adapter of teachers\.c, only of a, b\. Fit them"),
        ({"a": live(others["other"]), "b": b}, r"teachers\.a: weights are others \(fitted float32:"),
        ({"a": a, "b": live(others["wide"])}, r"teachers\.b: layers of attention was \[\[0, 2, 8, 8, 0\]"),
        ({"a": a | {"layers": {"kind": "nearest"}}}, r"teachers\.a: option layers was {'kind': 'ratio'}"),
        ({"a": a | {"adapter": {"kind": "ridge", "shared": True}}}, r"teachers\.a: option adapter was"),
        ({"a": a | {"tokens": "last"}}, r"teachers\.a: option tokens was average and is last here"),
    ):
        with pytest.raises(ValueError, match=message):
            saved.load(teachers)


def test_another_student_is_refused(saved: Saved, others: dict[str, Path]) -> None:
    saved.base = others["other"]
    with pytest.raises(ValueError, match="another pair: the student's weights are others"):
        saved.load(saved.teachers)
    saved.base = others["wide"]
    with pytest.raises(ValueError, match=r"the student's layers was \[\[0, 2, 8, 8, 0\], .* is \[\[0, 2, 12"):
        saved.load(saved.teachers)


def test_nothing_half_written_is_complete(saved: Saved) -> None:
    path, report = saved.folder / ADAPTERS, saved.folder / "calibration.json"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 10])
    with pytest.raises(ValueError, match=r"adapters\.safetensors is damaged"):
        saved.load(saved.teachers)
    path.write_bytes(content)
    report.write_text(report.read_text() + " ")
    with pytest.raises(ValueError, match="is not the report of adapters.safetensors beside it: the fit was"):
        saved.load(saved.teachers)
    path.unlink()
    with pytest.raises(ValueError, match=r"holds no adapters\.safetensors\. `kvdistill align fit --output"):
        saved.load(saved.teachers)


def test_an_interrupted_fit_leaves_no_file_of_its_own(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (saved.folder / ADAPTERS).read_bytes()

    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("kvdistill.run.adapters.save_file", full)
    step, record = saved.load(saved.teachers)
    with pytest.raises(OSError, match="no space left"):
        save_adapters(saved.config(saved.teachers), step, record, saved.folder)
    assert sorted(path.name for path in saved.folder.iterdir()) == [ADAPTERS, "calibration.json"]
    assert (saved.folder / ADAPTERS).read_bytes() == content


def test_low_rank_adapters_count_once_they_are_trained(base_folder: Path, tmp_path: Path) -> None:
    """Before training they are zero, whatever the seed has drawn."""
    lora = {"tuning": {"kind": "lora", "r": 2}}
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        student = build_student(run(base_folder, tmp_path, {}, model=lora))
        found.append(student_of(student)["weights"])
        with torch.no_grad():
            for name, value in student.backbone.named_parameters():
                value.add_(0.1 * ("layers.1.mlp.up_proj.lora_B" in name))
        assert student_of(student)["weights"] != found[0]
    assert found[0] == found[1]


def test_adapters_of_another_calibration_are_refused(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files without the entry are of the student's cache, the only target that there was."""
    step = saved.step(saved.teachers)
    bridge = {"kind": "lower", "calibration_target": "task", "task": {"steps": 7}}
    with pytest.raises(ValueError, match=r"teachers\.a: calibration was student_cache and is task .*steps=7"):
        load_adapters(run(saved.base, saved.output, saved.teachers, bridge=bridge), step, saved.folder)
    assert difference("x", {}, {"calibration": "student_cache", "option heads": "all"}) == ""
    assert "option heads was all and is [0] here" in difference("x", {}, {"option heads": [0]})
    assert "was student_cache and is task here" in difference("x", {}, {"calibration": "task"})


def test_the_parts_by_hand(tmp_path: Path) -> None:
    assert shape_of(geometry(2, 3, 4, 5)) == [[0, 3, 4, 5, 0], [1, 3, 4, 5, 0]]
    assert hash_of(tmp_path / "none") == ""
    names = ["scale", "a/layers", "a/aligner/adapter.keys.0.weight", "b/layers", "fused/mean/count"]
    assert [name for name in names if belongs(name, ["a", "fused"])] == names[:3]
    assert difference("x", {"weights": "float32:1"}, {"weights": "bfloat16:2"}) == "", "another dtype"
    assert difference("x", {"a": 1}, {"a": 1}) == ""


def built(told) -> Distillation:
    torch.manual_seed(0)
    step = step_model(told, build_student(told))
    assert isinstance(step, Distillation)
    return step


def test_a_copy_is_told_and_reads_as_the_student_does(base_folder: Path, tmp_path: Path) -> None:
    plain = run(base_folder, tmp_path / "run", {"a": live(base_folder)})
    one = built(plain)
    said: list[str] = []
    record = align_teachers(plain, one, encoded(one.student, 40), None, said.append)
    assert record is not None and said[0].startswith("teachers.a: calibration on 512 samples")
    assert record.teachers[0].mean_cosine() == pytest.approx(1, abs=0.05), "a copy, by its ridge"
