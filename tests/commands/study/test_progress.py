"""Lines of a study's progress."""

from pathlib import Path

import pytest

from kvdistill.commands.study.plan import Job, jobs_of
from kvdistill.commands.study.progress import StudyProgress, outcome_of, progress_of
from kvdistill.config.study_file import read_study
from kvdistill.records.schema import Metrics
from pico_study import study_file, write_run


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A run of an arm."""
    return jobs_of(read_study(study_file(tmp_path)), tmp_path / "out", ["e1"], [0])[1]


def test_a_run_is_followed_by_its_metrics(job: Job) -> None:
    assert progress_of(job) == (0, "")
    Metrics(job.folder / "metrics.jsonl").append_row(2, {"validation_accuracy": 0.25})
    Metrics(job.folder / "metrics.jsonl").append_row(3, {"loss": 1.0})
    assert progress_of(job) == (3, "(validation 0.25)")
    assert outcome_of(job) == "step 3 (validation 0.25)"
    write_run(job.folder, 0, 93)
    assert outcome_of(job) == "accuracy 93.0 %"


def test_beginnings_ends_and_a_line_a_minute(
    job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = StudyProgress(4)
    progress.begins(job)
    progress.runs(job)
    monkeypatch.setattr("kvdistill.commands.study.progress.EVERY", 0.0)
    progress.runs(job)
    job.folder.mkdir(parents=True)
    (job.folder / "console.txt").write_text("kvdistill train: out of memory\n")
    progress.ends(job, "failed", 30.0)
    progress.close()
    assert capsys.readouterr().out.splitlines() == [
        "[1/4] e1/seed0 begins",
        "steps: e1/seed0 0/3",
        "e1/seed0 FAILED: kvdistill train: out of memory (0.5 min)",
    ]


def test_on_a_terminal_each_run_has_a_bar(
    job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvdistill.commands.study.progress.on_terminal", lambda: True)
    write_run(job.folder, 0, 50)
    progress = StudyProgress(1)
    progress.begins(job)
    progress.runs(job)
    progress.ends(job, "complete", 6.0)
    progress.close()
    captured = capsys.readouterr()
    assert "e1/seed0" in captured.err
    assert "[1/1] e1/seed0 resumes" in captured.out or "[1/1] e1/seed0 begins" in captured.out
    assert "e1/seed0 is complete: accuracy 50.0 % (0.1 min)" in captured.out
