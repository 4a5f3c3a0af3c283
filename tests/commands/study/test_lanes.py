"""Runs side by side: their order, what follows from a failure, and how they are ended."""

import json
from pathlib import Path

import pytest

from kvdistill.commands.study import lanes
from kvdistill.commands.study.lanes import End, Running, last_line, run_all
from kvdistill.commands.study.plan import Job, jobs_of
from kvdistill.commands.study.run import summary_of, table_of, unfinished
from kvdistill.config.study_file import read_study
from kvdistill.records.schema import Metrics
from kvdistill.run.folder import COMPLETED
from pico_study import TOML, study_file


class Pretended:
    """A run that ends when it is asked for the second time; it fails where its folder holds ``fail``."""

    ended: list[str]
    """What was done to processes, in order."""
    most: int
    now: int

    def __init__(self, words: list[str], console: Path, threads: int) -> None:
        self.folder, self.asked = console.parent, 0
        assert json.loads(Path(words[-1]).read_text())["training"]["output_dir"] == str(self.folder)
        (self.folder / "run.json").write_text("{}")
        Pretended.now += 1
        Pretended.most = max(Pretended.most, Pretended.now)

    def poll(self) -> int | None:
        self.asked += 1
        if self.asked < 2:
            return None
        Pretended.now -= 1
        if (self.folder / "fail").exists():
            return 1
        (self.folder / "checkpoint-ep1").mkdir()
        (self.folder / "TRAINING_COMPLETED.txt").write_text("")
        return 0

    def terminate(self) -> None:
        self.ended.append("signal")

    def kill(self) -> None:
        self.ended.append("kill")

    def wait(self, timeout: float) -> int | None:
        if "kill" not in self.ended:  # it takes no notice of signals
            return None
        return -9


class Heard:
    """Writes down what happens."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begins(self, job: Job) -> None:
        self.lines.append(f"{job.name} begins")

    def runs(self, job: Job) -> None:
        pass

    def ends(self, job: Job, end: End, seconds: float) -> None:
        self.lines.append(f"{job.name} {end}")


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Six runs, which are pretended."""
    monkeypatch.setattr(lanes, "start", Pretended)
    monkeypatch.setattr(lanes, "_POLL", 0.0)
    monkeypatch.setattr(
        "kvdistill.commands.study.plan.newest_checkpoint", lambda path: path / "checkpoint-ep1"
    )
    Pretended.ended, Pretended.most, Pretended.now = [], 0, 0
    return jobs_of(read_study(study_file(tmp_path)), tmp_path / "out", ["e1", "step_end"], [0, 1])


def test_two_lanes_run_what_is_ready_in_order(jobs: list[Job]) -> None:
    heard = Heard()
    outcome = run_all(jobs, 2, 1, heard, lambda: True)
    assert [line for line in heard.lines if "begins" in line] == [
        "warm/terse/seed0 begins",
        "warm/terse/seed1 begins",
        "e1/seed0 begins",
        "step_end/seed0 begins",
        "e1/seed1 begins",
        "step_end/seed1 begins",
    ]
    assert Pretended.most == 2
    assert not (outcome.failed or outcome.left)


def test_a_failed_run_leaves_out_those_that_start_from_it_and_no_other(jobs: list[Job]) -> None:
    jobs[0].folder.mkdir(parents=True)
    (jobs[0].folder / "fail").write_text("")
    outcome = run_all(jobs, 1, 1, Heard(), lambda: True)
    assert [job.name for job in outcome.failed] == ["warm/terse/seed0"]
    assert [job.name for job in outcome.left] == ["e1/seed0", "step_end/seed0"]
    assert [job.name for job in jobs if job.state == "complete"] == [
        "warm/terse/seed1",
        "e1/seed1",
        "step_end/seed1",
    ]


def test_a_seed_whose_warm_start_ends_too_low_is_held_back(tmp_path: Path, jobs: list[Job]) -> None:
    text = TOML.replace(
        'training = {task = "cot", max_steps = 2}',
        'training = {task = "cot", max_steps = 2}\nrequire_accuracy = 0.8',
    )
    study = read_study(study_file(tmp_path, text))
    jobs = jobs_of(study, tmp_path / "out", ["e1", "step_end"], [0, 1])
    for job, accuracy in ((jobs[0], 0.79), (jobs[3], 0.8)):
        Metrics(job.folder / "metrics.jsonl").append_row(2, {"validation_accuracy": accuracy})
    outcome = run_all(jobs, 2, 1, Heard(), lambda: True)
    assert [job.name for job in outcome.left] == ["e1/seed0", "step_end/seed0"]
    assert unfinished(jobs) == []
    assert summary_of(jobs, outcome, None) == (
        "4 of 6 runs are complete. Seed 0 is held back: warm/terse/seed0 ended at validation accuracy 0.790, "
        "and require_accuracy is 0.8."
    )
    assert "new, held back" in table_of(jobs)


def test_a_waiting_study_reads_the_metrics_of_a_warm_start_once(
    tmp_path: Path, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TOML.replace(
        'training = {task = "cot", max_steps = 2}',
        'training = {task = "cot", max_steps = 2}\nrequire_accuracy = 0.8',
    )
    jobs = jobs_of(read_study(study_file(tmp_path, text)), tmp_path / "out", ["e1", "step_end"], [0, 1])
    Metrics(jobs[0].folder / "metrics.jsonl").append_row(2, {"validation_accuracy": 0.5})
    (jobs[0].folder / COMPLETED).write_text("")
    reads: list[Path] = []
    read_rows = Metrics.read_rows
    monkeypatch.setattr(Metrics, "read_rows", lambda self: reads.append(self.path) or read_rows(self))
    waiting = jobs[1:3]
    assert [lanes._ready(waiting, []) for _ in range(5)] == [None] * 5
    assert reads == [jobs[0].folder / "metrics.jsonl"]


def test_when_time_is_up_the_running_ones_are_finished(jobs: list[Job]) -> None:
    answers = iter([True, True])
    outcome = run_all(jobs, 1, 1, Heard(), lambda: next(answers, False))
    assert outcome.out_of_time
    assert [job.state for job in jobs[:2]] == ["complete", "new"]
    assert len(outcome.left) == 5


def test_a_run_that_does_not_end_at_a_signal_is_killed(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(jobs[0], lanes._begin(jobs[0], 1).process, 0.0)
    monkeypatch.setattr(lanes, "PATIENCE", 0.0)
    lanes._end([running])
    assert Pretended.ended == ["signal", "kill"]


def test_the_last_line_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "console.txt").write_text("a\n  b \n\n")
    assert last_line(tmp_path / "console.txt") == "b"
    assert last_line(tmp_path / "absent.txt") == ""
