"""A study of two arms and two seeds that takes seconds, as a file and as records made by hand."""

import os
import signal
import sys
import time
from pathlib import Path

import pico_process
from kvdistill import cli
from kvdistill.records.schema import EvaluationRecord, Metrics, RunRecord
from kvdistill.records.study import ArmPlan, ClaimPlan, ComparisonPlan, StudyPlan, WarmPlan

TOML = """
[study]
name = "pico"
seeds = [0, 1]
baseline = "e1"
[base]
model.tuning.kind = "full"
data.train = {kind = "synthetic", num = 64}
data.validation = {kind = "synthetic", num = 4, split = "validation"}
data.test = {kind = "synthetic", num = 5, split = "test"}
task = {kind = "chain", names = 5, steps = 2, trace = "verbose"}
latent = {slots = 2, passes = 1, delimiters = "both"}
loss = {codi_weight = 1.0, kv_weight = 1.0}
evaluation = {batch_size = 4, max_new_tokens = 6}
[base.model.config]
model_type = "llama"
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 2
intermediate_size = 48
max_position_embeddings = 128
[base.training]
batch_size = 8
gradient_accumulation_steps = 1
max_steps = 3
lr = 1e-3
logging_steps = 1
eval_steps = 1
[[warm]]
name = "terse"
task.trace = "terse"
training = {task = "cot", max_steps = 2}
[arms.e1]
label = "no KV loss"
experiment = "E1"
loss.kv_weight = 0.0
[arms.step_end]
target.method.kind = "step_end"
[[claims]]
title = "The KV loss helps"
compare = ["step_end > E1"]
"""


def study_file(folder: Path, text: str = TOML) -> Path:
    """The study as a file in ``folder``."""
    path = folder / "pico.toml"
    path.write_text(text)
    return path


def plan(*arms: str, seeds: tuple[int, ...] = (0, 1), **changes: object) -> StudyPlan:
    """A plan of arms with the claim that the second is better than the first."""
    compared = [
        ComparisonPlan(first=arms[1], second=arms[0], kind="superiority", measure="accuracy", delta=None)
    ]
    held = {
        "name": "by hand",
        "file": "by_hand.toml",
        "planned": "2030-01-01T00:00:00+00:00",
        "primary": "accuracy",
        "learned": 0.9,
        "delta": {},
        "baseline": arms[0],
        "arms": {name: ArmPlan(label=f"arm {name}", seeds=list(seeds)) for name in arms},
        "warm": [WarmPlan(name="terse", require_accuracy=0.99)],
        "claims": [ClaimPlan(title="The second helps", comparisons=compared)],
    }
    return StudyPlan(**held | changes)  # pyright: ignore


def write_run(
    folder: Path,
    seed: int,
    correct: int,
    curve: dict[int, float] | None = None,
    task: str = "latent",
    **options: object,
) -> None:
    """A complete run of 100 test questions by hand.

    ``options`` are top-level sections of its configuration.
    """
    config = {
        "training": {"task": task, "seed": seed, "output_dir": str(folder), "max_steps": 100},
        "target": {"method": {"kind": "step_end"}, "control": {"kind": "none"}},
        "loss": {"kv_weight": 1.0, "attention_weight": 0.0},
    }
    RunRecord(
        config=config | options,
        versions={"torch": "2"},
        commit="abc",
        seed=seed,
        hardware="a CPU",
        started="2030-01-02T00:00:00+00:00",
        seconds=90.0,
        command=f"kvdistill train {folder.name}",
    ).write(folder / "run.json")
    for step, accuracy in (curve or {10: 0.1, 20: 0.5, 30: correct / 100}).items():
        Metrics(folder / "metrics.jsonl").append_row(step, {"validation_accuracy": accuracy})
    EvaluationRecord(
        data_set="test",
        mode=task,  # pyright: ignore
        num=100,
        correct=correct,
        sequential_passes_mean=7.0,
        tokens_mean=9.0,
        ms_batch1=None,
        ms_batch32=None,
        chance=0.14,
    ).write(folder / f"evaluation_test_{task}.json")
    (folder / "TRAINING_COMPLETED.txt").write_text("Training completed.\n")


class Forked:
    """In place of :func:`kvdistill.commands.study.process.start`: a fork of the tests' own process."""

    def __init__(self, arguments: list[str], console: Path, threads: int) -> None:
        self.code: int | None = None

        def work() -> None:
            os.setsid()
            with console.open("a") as log:
                for number in (1, 2):
                    os.dup2(log.fileno(), number)
            sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)  # in place of those that pytest captures
            os._exit(cli.main(arguments))

        self.pid = pico_process.forked(work, OMP_NUM_THREADS=str(threads))

    def poll(self) -> int | None:
        """The exit code; None while the command runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, timeout: float) -> int | None:
        """Wait for the end."""
        deadline = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.code

    def terminate(self) -> None:
        """Ask the command to end, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the command at once."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
