"""Two processes that end together: by a signal, or because one of them is gone."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pico_runs
from conftest import sampled
from kvdistill.training.launch import SIGNALS, main

ROOT = Path(__file__).resolve().parents[2]
QUICK = [
    "--training.epochs",
    "20",
    "--training.batch_size",
    "4",
    "--training.save_steps",
    "1000",
    "--training.resume",
    "true",
]


def started(folder: Path, name: str) -> subprocess.Popen[str]:
    script = [
        str(ROOT / "experiments" / "train_with_kv.py"),
        "--config",
        str(pico_runs.toml(folder)),
        *QUICK,
        "--evaluation.modes",
        "[]",
    ]
    launch = [sys.executable, "-m", "kvdistill.training.launch", "--standalone", "--nproc_per_node", "2"]
    words = [*launch, *script, "--training.output_dir", str(folder / name)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def finished(folder: Path, name: str) -> None:
    run = started(folder, name)
    _, error = run.communicate(timeout=500)
    assert run.returncode == 0, error


def interrupted(folder: Path, name: str, act: object) -> tuple[int, list[str]]:
    """Exit code and errors of a run on which ``act`` is called after a few steps."""
    run = started(folder, name)
    log = folder / name / "metrics.jsonl"
    while not (log.is_file() and log.read_text().count("\n") > 6) and run.poll() is None:
        time.sleep(0.01)
    act(run)  # pyright: ignore
    _, error = run.communicate(timeout=200)
    return run.returncode, error.splitlines()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("everyone", sampled([True, False]))
def test_a_signal_leaves_one_sentence_and_a_checkpoint_from_which_the_run_is_the_same(
    tmp_path: Path, everyone: bool
) -> None:
    """To the launcher alone, as kill sends it, or to all processes, as a scheduler does."""
    finished(tmp_path, "plain")

    def end(run: subprocess.Popen[str]) -> None:
        for pid in [*(children(run.pid) if everyone else []), run.pid]:
            os.kill(pid, signal.SIGTERM)

    code, lines = interrupted(tmp_path, "run", end)
    assert code == 143, lines
    assert len(lines) == 1, lines
    assert re.fullmatch(
        r"train_with_kv\.py: interrupted by SIGTERM; a checkpoint of step \d+ has been written\. The same .*",
        lines[0],
    )
    finished(tmp_path, "run")
    one, other = (
        (tmp_path / name / "checkpoint-ep20" / "model.safetensors").read_bytes() for name in ("plain", "run")
    )
    assert one == other


@pytest.mark.parametrize("rank", [0, 1])
def test_when_one_process_is_gone_the_other_one_says_so(tmp_path: Path, rank: int) -> None:
    code, lines = interrupted(tmp_path, "run", lambda run: os.kill(children(run.pid)[rank], signal.SIGKILL))
    assert code == 137
    assert len(lines) == 1, lines
    assert lines[0].startswith(
        "train_with_kv.py: another process of this run has ended, so this one stops too."
    )


@pytest.fixture
def handlers() -> Iterator[None]:
    """torch's launcher leaves its signal handlers behind."""
    before = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS.split(",")}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.mark.usefixtures("handlers")
def test_a_process_that_ends_in_an_error_gives_its_exit_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "fails.py"
    script.write_text("import sys; sys.exit(2)\n")
    assert main(["--standalone", "--nproc_per_node", "1", str(script)]) == 2
    assert "Traceback" not in capfd.readouterr().err
