"""Errors and signals as one sentence and an exit code; and a real run that is interrupted and resumed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import torch

import pico_runs
from conftest import sampled
from kvdistill.cli import main
from kvdistill.console.exits import exit_code
from kvdistill.console.signals import Interrupted


def ending(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    def work() -> None:
        raise error

    code = exit_code("program", work, "Type it again.")
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ValueError("--lr is wrong."), 2, "program: --lr is wrong.\n"),
        (
            OSError(28, "No space left", "a/b"),
            2,
            "program: there is no room on the disk for a/b. Free some, then run the same command",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            2,
            "program: out of memory: lower --training.batch_size",
        ),
        (KeyboardInterrupt(), 130, "program: interrupted by Ctrl-C. Type it again.\n"),
        (
            Interrupted(15, "step 3 is saved"),
            143,
            "program: interrupted by SIGTERM; step 3 is saved. Type it again.\n",
        ),
        (Interrupted(1), 129, "program: interrupted by SIGHUP. Type it again.\n"),
    ],
)
def test_what_ends_a_command_is_a_sentence(
    error: BaseException, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, text = ending(error, capsys)
    assert found == code
    assert text.startswith(sentence)
    assert text.count("\n") == 1


def test_main_memory_that_torch_cannot_get_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        torch.empty(1 << 60, dtype=torch.uint8)

    assert exit_code("program", work) == 2
    assert capsys.readouterr().err.startswith("program: out of memory: lower --training.batch_size")


def test_an_import_that_is_interrupted_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    error = ImportError("initialization failed")
    error.__cause__ = KeyboardInterrupt()
    assert ending(error, capsys)[0] == 130


def test_other_errors_keep_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        ending(RuntimeError("broken"), capsys)


def test_a_process_that_has_gone_is_one_sentence_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1\nmore")
    with pytest.raises(RuntimeError):
        ending(gone, capsys)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    code, text = ending(gone, capsys)
    assert code == 1
    assert text.startswith("program: another process of this run has ended, so this one stops too.")
    assert text.count("\n") == 1
    assert ending(Interrupted(15), capsys) == (143, ""), "the first process prints it"


# Real processes.


def started(*words: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "kvdistill", *words],
        stderr=stderr,
        stdout=subprocess.PIPE,
        text=True,
        env=one_thread,
    )


def finished(*words: str) -> tuple[str, str]:
    """Output and errors of a run that ends well."""
    run = started(*words)
    out, error = run.communicate(timeout=300)
    assert run.returncode == 0, error
    return out, error


def options(folder: Path, name: str) -> list[str]:
    toml = str(pico_runs.toml(folder))
    more = [
        "--training.epochs",
        "20",
        "--evaluation.modes",
        "[]",
        "--training.save_steps",
        "1000",
        "--training.resume",
        "true",
    ]
    return ["train", "--config", toml, *more, "--training.output_dir", str(folder / name)]


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.is_file() else 0


def after_steps(run: subprocess.Popen[str], folder: Path, signum: int) -> None:
    """Send the signal once the run has made a few steps."""
    while lines(folder / "metrics.jsonl") < 7 and run.poll() is None:
        time.sleep(0.005)
    run.send_signal(signum)


@pytest.mark.parametrize("signum", sampled([signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP]))
def test_a_signal_in_training_leaves_a_checkpoint_from_which_the_run_is_the_same(
    tmp_path: Path, signum: int
) -> None:
    assert main(options(tmp_path, "plain")) == 0
    run = started(*options(tmp_path, "run"))
    after_steps(run, tmp_path / "run", signum)
    _, error = run.communicate(timeout=120)
    assert run.returncode == 128 + signum, error
    name = signal.Signals(signum).name
    said = re.fullmatch(
        rf"kvdistill train: interrupted by {name}; a checkpoint of step (\d+) has been written\. The same "
        r".*\n",
        error,
    )
    assert said is not None, error
    step = int(said[1])
    assert list((tmp_path / "run").glob(f"checkpoint-ep*-step{step}")) or step % 3 == 0, (
        "inside an epoch, or at its end"
    )
    assert main(options(tmp_path, "run")) == 0
    for file in ("model.safetensors", "optimizer.pt", "scheduler.pt", "carried.safetensors"):
        one, other = (
            (tmp_path / folder / "checkpoint-ep20" / file).read_bytes() for folder in ("plain", "run")
        )
        assert one == other, file
    logs = [
        (tmp_path / folder / "training_log.txt").read_text().splitlines()[1:-1] for folder in ("plain", "run")
    ]
    assert logs[0] == logs[1], "but for the command, and the run time in the last line"


def test_ctrl_c_beside_a_bar_is_a_sentence_on_a_line_of_its_own(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    run = started(*options(tmp_path, "run"), "--training.progress", "true", stderr=terminal)
    os.close(terminal)
    after_steps(run, tmp_path / "run", signal.SIGINT)
    shown = b""
    with contextlib.suppress(OSError):  # what a terminal says when nobody writes to it any more
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    run.communicate(timeout=60)
    assert run.returncode == 130
    *before, sentence = shown.decode().splitlines()
    assert any("/60 [" in line for line in before)
    assert (
        sentence
        == "kvdistill train: interrupted by Ctrl-C. The same command with --resume (--training.resume true) "
        "resumes the run."
    )


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_program_begins_is_a_sentence(tmp_path: Path, signum: int) -> None:
    for delay in (0.3, 0.8, 1.5):
        run = started(*options(tmp_path, "run"))
        while not listens(run.pid) and run.poll() is None:
            time.sleep(0.01)
        time.sleep(delay)
        run.send_signal(signum)
        _, error = run.communicate(timeout=60)
        assert run.returncode == 128 + signum, error
        assert error.startswith("kvdistill train: interrupted by ")
        assert error.count("\n") == 1


def listens(pid: int) -> bool:
    """Whether a process handles SIGUSR1: the command line is there, torch is still being imported."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


def test_a_log_file_holds_no_control_characters(tmp_path: Path) -> None:
    words = ["--training.progress", "true", "--training.epochs", "1"]
    out, error = finished(*options(tmp_path, "run"), *words)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", out + error)
    assert "step 3/3  epoch 1 ended" in out
    assert os.linesep * 2 not in out + error, "no blank lines"
