"""The export of a study: its records without checkpoints, with the same report."""

from pathlib import Path

import pytest

from kvdistill.commands.study.export import export
from kvdistill.records.study import PLAN
from kvdistill.reporting.studies.arms import StudyNumbers
from kvdistill.reporting.studies.study_report import write_study_report
from pico_study import plan, write_run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of two runs, one with a checkpoint, and one that is not complete."""
    folder = tmp_path / "study"
    plan("e1", "rkv").write(folder / PLAN)
    for arm, correct in (("e1", 20), ("rkv", 95)):
        write_run(folder / arm / "seed0", 0, correct)
    (folder / "rkv" / "seed0" / "checkpoint-ep1").mkdir()
    (folder / "rkv" / "seed0" / "checkpoint-ep1" / "weights").write_text("large")
    write_run(folder / "rkv" / "seed1", 1, 95)
    (folder / "rkv" / "seed1" / "TRAINING_COMPLETED.txt").unlink()
    return folder


def test_the_report_of_an_export_has_the_same_numbers(study: Path, tmp_path: Path) -> None:
    size = export(study, tmp_path / "records")
    assert size == sum(path.stat().st_size for path in (tmp_path / "records").rglob("*") if path.is_file())
    write_study_report(study)
    before, after = (StudyNumbers.read(folder / "study.json") for folder in (study, tmp_path / "records"))
    assert after.rows["e1"] == before.rows["e1"]
    assert after.rows["rkv"].measures == before.rows["rkv"].measures
    assert not list((tmp_path / "records").rglob("checkpoint*"))
    assert sorted(path.name for path in (tmp_path / "records" / "rkv").iterdir()) == ["seed0"]
    export(study, tmp_path / "records")  # replaces the one before


def test_what_is_too_large_or_something_else_is_refused(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"above 0\.0 MiB: raise training\.logging_steps"):
        export(study, tmp_path / "records", largest=100)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    for place in (tmp_path / "mine", study):
        with pytest.raises(ValueError, match="holds something other than an export"):
            export(study, place)
    with pytest.raises(
        FileNotFoundError, match=r"plan\.json does not exist: `kvdistill study run` writes it"
    ):
        export(tmp_path / "mine", tmp_path / "records")
