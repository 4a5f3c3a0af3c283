"""What ``align`` fits is what a run fits, and a configuration without teachers is refused."""

from pathlib import Path
from typing import Any

import pytest

from kvdistill.commands.align.prepare import align, require_separate_teachers
from kvdistill.records.calibration import CalibrationRecord
from kvdistill.run.train import train
from pico_teachers import live, run


def test_the_report_is_that_of_a_run(models: dict[str, Path], tmp_path: Path) -> None:
    """A run calibrates with the same student on the same samples."""
    config = run(models["base"], tmp_path / "run", {"b": live(models["bytes"])})
    train(config)
    record = CalibrationRecord.read(tmp_path / "run/calibration.json")
    found = align(config, tmp_path, lambda line: None).record
    assert (found.samples, found.targets, found.scale) == (record.samples, record.targets, record.scale)
    assert [each.maps for each in found.teachers] == [each.maps for each in record.teachers]
    assert [each.attention_cosine for each in found.teachers] == [
        each.attention_cosine for each in record.teachers
    ]


@pytest.mark.parametrize(
    ("teachers", "sections", "message"),
    [
        ({}, {"bridge": {"kind": "same"}}, "has no separate teacher .* Add one: --teachers.NAME.kind live"),
        ({"a": {"kind": "own"}}, {}, "has no separate teacher"),
        ({"a": live(Path("x"))}, {"loss": {"kv_weight": 0.0, "codi_weight": 1.0}}, "compares no caches"),
        (
            {"a": live(Path("x"))},
            {"bridge": {"kind": "lift"}},
            "bridge.kind is lift, .* Set --bridge.kind lower",
        ),
    ],
)
def test_without_a_teacher_to_align_it_is_refused(
    teachers: dict[str, Any], sections: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = run(tmp_path / "base", tmp_path, teachers, **sections)
    with pytest.raises(ValueError, match=message):
        require_separate_teachers(config)
