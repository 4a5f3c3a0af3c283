"""Processes of runs: a fork of a server and a new interpreter do the same."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kvdistill.commands.study import process
from kvdistill.commands.study.plan import jobs_of
from kvdistill.commands.study.process import Process, start
from kvdistill.config import resolved
from kvdistill.config.study_file import read_study
from pico_study import TOML, study_file


@pytest.fixture(params=[True, False], ids=["fork", "interpreter"])
def begin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Process]:
    """Both ways to begin a process."""
    monkeypatch.setattr(process, "_can_fork", lambda: request.param)
    return start


def test_a_command_runs_and_its_output_is_appended(begin: Callable[..., Process], tmp_path: Path) -> None:
    console = tmp_path / "console.txt"
    console.write_text("before\n")
    running = begin(["doctor", "--help"], console, 1)
    assert running.wait(100.0) == 0
    assert running.poll() == 0
    lines = console.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[1].startswith("usage: kvdistill doctor")


def test_a_wrong_command_has_its_exit_code(begin: Callable[..., Process], tmp_path: Path) -> None:
    running = begin(["train", "--config", "absent.toml"], tmp_path / "console.txt", 1)
    assert running.wait(100.0) == 2
    assert "absent.toml" in (tmp_path / "console.txt").read_text()


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_command_is_ended(
    begin: Callable[..., Process], tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TOML.replace("max_steps = 2", "max_steps = 9000")
    job = jobs_of(read_study(study_file(tmp_path, text)), tmp_path / "out", ["e1"], [0])[0]
    job.folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(job.folder)  # the caller's folder is the command's
    Path("config.json").write_text(json.dumps(resolved(job.config())))
    running = begin(["train", "--config", "config.json"], Path("console.txt"), 1)
    while not Path("metrics.jsonl").is_file():
        assert running.wait(0.05) is None, Path("console.txt").read_text()
    getattr(running, end)()
    assert running.wait(100.0) == {"terminate": 128 + signal.SIGTERM, "kill": -signal.SIGKILL}[end]
    assert bool(list(job.folder.glob("checkpoint-ep*"))) == (end == "terminate")
