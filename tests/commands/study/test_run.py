"""A study from end to end: interrupted, resumed, complete, and left alone; its budget, array and dry run."""

import json
import signal
from pathlib import Path

import pytest

from kvdistill.commands.study import lanes
from kvdistill.commands.study.progress import StudyProgress
from kvdistill.commands.study.run import Request, run_study, write_plan
from kvdistill.config.study_file import read_study
from kvdistill.console.signals import Interrupted
from kvdistill.records.schema import Metrics, RunRecord
from kvdistill.records.study import PLAN, StudyPlan
from kvdistill.reporting.studies.arms import StudyNumbers
from pico_study import TOML, Forked, study_file

RUNS = ["warm/terse", "e1", "step_end"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are forked, and write no report of their own."""
    monkeypatch.setattr(lanes, "start", Forked)
    monkeypatch.setattr("kvdistill.run.train.missing_packages", lambda extra: ["matplotlib"])


def test_a_study_is_interrupted_resumed_and_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The second arm takes long enough to be interrupted.
    text = TOML.replace(
        'target.method.kind = "step_end"',
        'target.method.kind = "step_end"\ntraining = {max_steps = 40, eval_steps = 40}',
    )
    request = Request(file=str(study_file(tmp_path, text)), output=str(tmp_path / "out"))

    def interrupt(progress: StudyProgress, job: object) -> None:
        metrics = tmp_path / "out" / "step_end" / "seed0" / "metrics.jsonl"
        if metrics.is_file() and Metrics(metrics).read_rows():
            raise Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(StudyProgress, "runs", interrupt)
        with pytest.raises(Interrupted):
            run_study(request)
    out = tmp_path / "out"
    half = out / "step_end" / "seed0"
    assert list(half.glob("checkpoint-ep*"))
    assert not (half / "TRAINING_COMPLETED.txt").exists()
    untouched = (out / "e1" / "seed0" / "run.json").read_text()
    assert run_study(request) == 0
    printed = capsys.readouterr().out
    assert "[1/4] step_end/seed0 resumes" in printed
    assert "All 6 runs are complete." in printed
    assert RunRecord.read(half / "run.json").resumes == 1
    assert (out / "e1" / "seed0" / "run.json").read_text() == untouched
    numbers = StudyNumbers.read(out / "study.json")
    assert {name: row.seeds for name, row in numbers.rows.items()} == {"e1": [0, 1], "step_end": [0, 1]}
    assert [(run.stage, run.seed, run.steps) for run in numbers.warm] == [("terse", 0, 2), ("terse", 1, 2)]
    assert run_study(request) == 0
    assert "begins" not in capsys.readouterr().out
    # A complete run with other options is not passed off as one of this study.
    study_file(tmp_path, text.replace("lr = 1e-3", "lr = 2e-3"))
    with pytest.raises(ValueError, match=r"terse.* holds another run: its training\.lr"):
        run_study(request)


def test_the_budget_lets_runs_finish_and_begins_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = Request(
        file=str(study_file(tmp_path)), output=str(tmp_path / "out"), minutes=1e-6, seeds="1", arms="E1"
    )
    assert run_study(request) == 0
    assert "0 of 2 runs are complete. The 1e-06 minutes are used up." in capsys.readouterr().out


def test_a_task_of_an_array_takes_its_seeds_and_leaves_the_report_to_the_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TOML.replace('experiment = "E1"', 'experiment = "E1"\nstart = "none"')
    file, out = str(study_file(tmp_path, text)), tmp_path / "out"
    for task, said in (("0/2", "The report is written by the task that ends last."), ("1/2", "Report: ")):
        assert run_study(Request(file=file, output=str(out), arms="e1", array_task=task)) == 0
        printed = capsys.readouterr().out
        assert f"Task {task[0]} of 2 has seed {task[0]}." in printed
        assert said in printed
    assert sorted(path.parent.name for path in out.glob("e1/*/run.json")) == ["seed0", "seed1"]


def test_a_dry_run_prints_the_runs_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = Request(file=str(study_file(tmp_path)), output=str(tmp_path / "out"), dry_run=True, seeds="0")
    assert run_study(request) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:4]] == [f"{name}/seed0" for name in RUNS]
    assert lines[-1] == "3 runs, 3 to do, at most 8 steps."
    assert not (tmp_path / "out").exists()


def test_a_run_that_cannot_begin_stops_the_study_with_its_last_line(tmp_path: Path) -> None:
    text = TOML.replace("num = 64", "num = 640")
    with pytest.raises(ValueError, match="warm/terse/seed0 could not begin.*fewer than the 640 asked for"):
        run_study(Request(file=str(study_file(tmp_path, text)), output=str(tmp_path / "out")))


def test_claims_keep_their_time_until_they_change(tmp_path: Path) -> None:
    study = read_study(study_file(tmp_path))
    study.plan("2030-01-01T00:00:00+00:00").write(tmp_path / PLAN)
    write_plan(study, tmp_path)
    assert StudyPlan.read(tmp_path / PLAN).planned == "2030-01-01T00:00:00+00:00"
    changed = read_study(study_file(tmp_path, TOML.replace("step_end > E1", "area: step_end > E1")))
    write_plan(changed, tmp_path)
    assert StudyPlan.read(tmp_path / PLAN).planned != "2030-01-01T00:00:00+00:00"
    assert json.loads((tmp_path / PLAN).read_text())["claims"][0]["comparisons"][0]["measure"] == "area"


def test_seeds_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--seeds should be seeds such as 0-7"):
        run_study(Request(file=str(study_file(tmp_path)), output=str(tmp_path), seeds="x"))
