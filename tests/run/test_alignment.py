"""Adapters of a run: fitted, loaded from a folder, or restored; ``identity`` is for copies alone."""

from pathlib import Path

import pytest
import torch

from kvdistill.pipeline import Distillation
from kvdistill.run.adapters import save_adapters
from kvdistill.run.alignment import align_teachers, is_copy, require_copies
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from kvdistill.target.lower import LowerBridge
from pico_students import config, save_base
from pico_teachers import encoded, live, run


def built(told) -> Distillation:
    torch.manual_seed(0)
    step = step_model(told, build_student(told))
    assert isinstance(step, Distillation)
    return step


def test_fitted_adapters_are_taken_in_place_of_a_calibration(base_folder: Path, tmp_path: Path) -> None:
    teachers = {"a": live(base_folder)}
    plain = run(base_folder, tmp_path / "run", teachers)
    one = built(plain)
    samples = encoded(one.student, 40)
    said: list[str] = []
    record = align_teachers(plain, one, samples, None, said.append)
    assert record is not None and said[0].startswith("teachers.a: calibration on 512 samples")
    assert record.teachers[0].mean_cosine() == pytest.approx(1, abs=0.05), "a copy, by its ridge"
    save_adapters(plain, one, record, tmp_path / "fitted")
    bridge = {"kind": "lower", "adapters": str(tmp_path / "fitted")}
    taking = run(base_folder, tmp_path / "run", teachers, bridge=bridge)
    other, said = built(taking), []
    # Without samples: nothing is fitted.
    assert align_teachers(taking, other, (), None, said.append) == record
    assert said == [f"teachers: adapters of {tmp_path / 'fitted'}; nothing is fitted"]
    assert isinstance(other.bridge, LowerBridge)
    assert other.bridge.scale is not None
    found, wanted = other.bridge.state(), one.bridge.state()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    bridge = {"kind": "lower", "adapters": "~/fitted"}
    found = run(Path("base"), tmp_path, {"a": live(Path("x"))}, bridge=bridge).bridge_method
    assert getattr(found, "adapters") == str(tmp_path / "fitted")  # noqa: B009  (a union)


def test_self_distillation_needs_no_alignment() -> None:
    told = config()
    assert align_teachers(told, built(told), (), None, print) is None


def test_identity_is_for_copies(base_folder: Path, tmp_path: Path) -> None:
    teachers = {"a": live(base_folder, adapter={"kind": "identity"})}
    told = run(base_folder, tmp_path / "run", teachers)
    require_copies(told, built(told))
    other = save_base(tmp_path / "other", initializer_range=0.3)
    told = run(base_folder, tmp_path / "run", {"a": live(other, adapter={"kind": "identity"})})
    step = built(told)
    with pytest.raises(ValueError, match=r"teachers\.a: adapter identity .* set teachers\.a\.adapter\.kind"):
        require_copies(told, step)
    assert is_copy(step.student.backbone, step.student.backbone)
    assert not is_copy(step.student.backbone, step.teachers[0].model)  # pyright: ignore
