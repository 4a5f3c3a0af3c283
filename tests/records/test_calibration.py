"""The record of a calibration: means, the teachers that are kept, and back from its file."""

from pathlib import Path

import pytest

from kvdistill.records.calibration import AdapterMap, CalibrationRecord, TaskFitRecord, TeacherCalibration
from kvdistill.records.utility import TargetUtility


def teacher(name: str, cosine: list[float | None] | None = None) -> TeacherCalibration:
    r2 = [("keys", 0.5), ("values", 0.25), ("keys", 1.0), ("values", 0.75)]
    maps = [
        AdapterMap(layer=place // 2, teacher_layers=[0], states=states, r2=value)
        for place, (states, value) in enumerate(r2)
    ]
    return TeacherCalibration(
        teacher=name,
        source=name,
        weight=1.0,
        steps=["layers: 0 <- 0 (1.00)"],
        covered=1.0,
        tokens={"fit": 3},
        maps=maps,
        memory=1,
        seconds=1.0,
        attention_cosine=cosine,
    )


RECORD = CalibrationRecord(
    samples=2,
    teachers=[teacher("a", [0.5, None, 1.0]), teacher("b")],
    scale=[[1.0, 2.0]],
    targets=[TargetUtility(target="fused", num=2, correct=1, nats=-1.0)],
    task=TaskFitRecord(
        teachers=["a"],
        steps=5,
        kept=5,
        held_out=[[0.0, -2.0], [5.0, -1.0]],
        after=TargetUtility(target="fused", num=2, correct=1, nats=-1.0),
    ),
)


def test_means_by_hand() -> None:
    a, b = RECORD.teachers
    assert (a.mean_r2("keys"), a.mean_r2("values")) == (0.75, 0.5)
    assert (a.mean_cosine(), b.mean_cosine()) == (pytest.approx(0.75), None)


def test_only_some_teachers_are_kept_without_the_utility_of_all() -> None:
    assert RECORD.only(["b", "a"]) is RECORD
    kept = RECORD.only(["b"])
    assert kept.task is None
    assert ([each.teacher for each in kept.teachers], kept.targets, kept.scale) == (["b"], None, [[1.0, 2.0]])


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "calibration.json")
    assert CalibrationRecord.read(tmp_path / "calibration.json") == RECORD
