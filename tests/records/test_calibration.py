"""The record of a calibration: means over layers, and what is on disk."""

from dataclasses import replace
from pathlib import Path

import pytest

from kvdistill.records.calibration import CALIBRATION, AdapterMap, CalibrationRecord, TeacherCalibration
from kvdistill.records.utility import utility_of


def record() -> CalibrationRecord:
    shares = {("keys", 0): 0.9, ("values", 0): 0.5, ("keys", 1): 0.7, ("values", 1): -0.1}
    maps = [
        AdapterMap(layer=layer, teacher_layers=[layer, layer + 1], states=states, r2=r2, penalty=1e-4)
        for (states, layer), r2 in shares.items()
    ]
    teacher = TeacherCalibration(
        teacher="big",
        source="hub/Big",
        weight=0.3,
        steps=["layers: 0 <- 0 (1.00)"],
        covered=0.98,
        tokens={"fit": 64, "choose": 16, "report": 20},
        maps=maps,
        memory=1024,
        seconds=1.5,
    )
    targets = [utility_of("fused", [True, True, False, True], [-0.1, -0.2, -3.0, -0.1], 0.25)]
    return CalibrationRecord(samples=100, teachers=[teacher], scale=[[1.0, 2.0]], targets=targets)


def test_the_mean_over_layers_is_that_of_keys_or_of_values() -> None:
    (teacher,) = record().teachers
    assert teacher.mean_r2("keys") == pytest.approx(0.8)
    assert teacher.mean_r2("values") == pytest.approx(0.2)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record().write(tmp_path / CALIBRATION)
    assert CalibrationRecord.read(tmp_path / CALIBRATION) == record()
    unfitted = CalibrationRecord(samples=2, teachers=[])
    unfitted.write(tmp_path / CALIBRATION)
    found = CalibrationRecord.read(tmp_path / CALIBRATION)
    assert (found.scale, found.targets) == (None, None)


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / CALIBRATION).write_text('{"version": 1, "samples": "many", "teachers": []}')
    with pytest.raises(ValueError, match=r"calibration\.json.*samples should be int"):
        CalibrationRecord.read(tmp_path / CALIBRATION)


def test_the_mean_cosine_leaves_out_layers_without_one() -> None:
    (teacher,) = record().teachers
    assert teacher.mean_cosine() is None
    assert replace(teacher, attention_cosine=[0.5, None, 1.0]).mean_cosine() == pytest.approx(0.75)


def test_only_some_teachers_are_kept_without_the_utility_of_all() -> None:
    (teacher,) = record().teachers
    both = replace(record(), teachers=[teacher, replace(teacher, teacher="small")])
    assert both.only(["small", "big"]) is both
    kept = both.only(["small"])
    assert ([each.teacher for each in kept.teachers], kept.targets) == (["small"], None)
    assert kept.scale == both.scale
