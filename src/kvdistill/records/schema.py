"""Schema of the records of a run: configuration, evaluations, curves and metrics.

Accuracies are shares from 0 to 1; ``made_by`` names the command that writes the file.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Literal

from kvdistill.records.intervals import wilson_interval
from kvdistill.records.jsonfile import JsonFile, write_atomic
from kvdistill.records.renamed import METRICS, present_names, present_options

Mode = Literal["latent", "cot", "cot_terse", "direct"]


@dataclass(frozen=True, kw_only=True)
class RunRecord(JsonFile):
    """``run.json``: how a run was made."""

    config: dict[str, Any]
    """The resolved config, every default filled in; options have their present names."""
    versions: dict[str, str]
    """Versions of Python and of the main packages."""
    commit: str | None
    """Git commit of the code; None outside a repository."""
    seed: int
    hardware: str
    """Description of the device."""
    started: str
    """ISO 8601 time with its offset."""
    seconds: float | None
    """Wall time in seconds; None while the run is in progress."""
    command: str | None = None
    """The command line as typed."""
    resumes: int = 0
    """How often the run was resumed."""
    processes: int = 1
    """Number of processes that shared each batch."""
    data: str | None = None
    """Fingerprint of the training data: of the token ids, for a stream of files of their names and sizes;
    None for a streamed hub data set.
    """
    teachers: dict[str, str] | None = None
    """Fingerprint of the weights of each separate teacher by short name; None in files of older versions."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", present_options(self.config))


@dataclass(frozen=True, kw_only=True)
class DepthCount:
    """Questions of one depth, the number of dependent steps from question to answer."""

    num: int
    correct: int

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return self.correct / self.num


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord(JsonFile):
    """``evaluation.json``: one mode of a model on one data set; accuracy is computed from counts."""

    made_by: ClassVar[str] = "kvdistill evaluate"

    data_set: str
    mode: Mode
    num: int
    correct: int
    accuracy: float = field(init=False)
    low: float = field(init=False)
    """Lower end of the Wilson 95 % interval over questions."""
    high: float = field(init=False)
    sequential_passes_mean: float
    """Sequential forward passes per question, mean."""
    tokens_mean: float
    """Tokens and latent slots processed per question, mean."""
    ms_batch1: float | None
    """Milliseconds per question at batch size 1; None where not timed."""
    ms_batch32: float | None
    """Milliseconds per question at batch size 32; None where not timed."""
    answers: str | None = None
    """Path of the file with all answers, relative to this file."""
    chance: float | None = None
    """Accuracy of always giving the most frequent answer; None in files of older versions."""
    source: str | None = None
    """Path of the data as given to ``kvdistill evaluate``; None for a run's own evaluation."""
    nats: float | None = None
    """Log-probability of the right answer, its end token included, mean over questions, in nats; None in
    files of older versions, where a text is longer than the model reads, and for ``cot`` without gold chains.
    """
    nats_low: float | None = None
    """Lower end of its 95 % interval over questions; None for a single question."""
    nats_high: float | None = None
    by_depth: dict[int, DepthCount] | None = None
    """Counts by depth; questions of unknown depth are left out. None where no depth is known."""

    def __post_init__(self) -> None:
        interval = wilson_interval(self.correct, self.num)
        object.__setattr__(self, "accuracy", self.correct / self.num)
        object.__setattr__(self, "low", interval.low)
        object.__setattr__(self, "high", interval.high)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A value with its threshold; ``reached`` is computed from both."""

    value: float | None
    """None where there is no value, such as a step that never came; counts as not reached."""
    bar: float
    """The threshold, which itself counts as reached."""
    at_most: bool = False
    """True where smaller is better."""
    text: str | None = None
    """Text to show in place of the number, where that alone would mislead."""
    reached: bool = field(init=False)

    def __post_init__(self) -> None:
        reached = self.value is not None and self.value >= self.bar
        if self.value is not None and self.at_most:
            reached = self.value <= self.bar
        object.__setattr__(self, "reached", reached)


@dataclass(frozen=True, kw_only=True)
class DemoSummary(JsonFile):
    """``summary.json``: the results of the demo."""

    version: ClassVar[int | None] = None
    made_by: ClassVar[str] = "kvdistill demo"

    cot: float
    direct: float
    latent_e1: float
    """Accuracy of latents trained without the KV term."""
    latent_kv: float
    """Accuracy of latents trained with the KV term and the compressor ``kv_method``."""
    kv_method: str
    """The compressor that won on validation."""
    latent_by_method: dict[str, float]
    """Accuracy of every compressor tried."""
    latent_shuffled: float | None = None
    """Accuracy of the negative control: R-KV on another question's shuffled target."""
    steps_to_90_e1: int | None
    """First step at which validation accuracy reached ``threshold``; None if it never did."""
    steps_to_90_kv: int | None
    passes_cot: float
    """Sequential forward passes per question."""
    passes_latent: float
    minutes: float
    cot_terse: float | None = None
    ms_cot: float | None = None
    """Milliseconds per question at batch size 1."""
    ms_latent: float | None = None
    passes_cot_terse: float | None = None
    seed: int | None = None
    threshold: float = 0.9
    bars: dict[str, Bar] | None = None


@dataclass(frozen=True, kw_only=True)
class Curve(JsonFile):
    """``curve_*.json``: validation accuracy of one method over training steps."""

    method: str
    steps: list[int]
    accuracy: list[float]
    nats: list[float] | None = None
    """Log-probability of the right answer at each step, mean over questions; None where it was not logged."""

    def __post_init__(self) -> None:
        if self.nats is not None and len(self.nats) != len(self.steps):
            raise ValueError(
                f"curve {self.method}: {len(self.steps)} steps, {len(self.nats)} log-probabilities. Give "
                "one a step, or none."
            )
        if not self.steps or len(self.steps) != len(self.accuracy):
            raise ValueError(
                f"curve {self.method}: {len(self.steps)} steps, {len(self.accuracy)} accuracies. Give one "
                "accuracy a step."
            )
        if any(later <= earlier for earlier, later in pairwise(self.steps)):
            raise ValueError(f"curve {self.method}: steps do not rise. Give each step once, in order.")
        if not all(0 <= accuracy <= 1 for accuracy in self.accuracy):
            raise ValueError(
                f"curve {self.method}: an accuracy is not between 0 and 1. Give shares, not percent."
            )

    def first_step(self, goal: float) -> int | None:
        """The first step with an accuracy (0 to 1) of at least ``goal``; None if there is none."""
        points = zip(self.steps, self.accuracy, strict=True)
        return next((step for step, accuracy in points if accuracy >= goal), None)


@dataclass(frozen=True)
class Metrics:
    """``metrics.jsonl``: one row ``{"step": ..., name: value, ...}`` for each log of a run.

    A row counts once its line end is written. A value that is not finite is stored as null and read as NaN.
    """

    path: Path

    def append_row(self, step: int, values: Mapping[str, float | int]) -> None:
        """Append a row; an incomplete last row, left by a killed process, is removed first."""
        row = _line(self.path, step, values)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            file.seek(max(file.tell() - 1, 0))
            if file.read() not in (b"", b"\n"):
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            file.write(row.encode())

    def write_rows(self, rows: Iterable[tuple[int, Mapping[str, float | int]]]) -> None:
        """Replace the file by these rows, each a step and its values."""
        write_atomic(self.path, "".join(_line(self.path, step, values) for step, values in rows))

    def read_rows(self) -> list[dict[str, float | int]]:
        """All complete rows, in the order written.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if a complete line is not a row of numbers, naming its line number.
        """
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} does not exist: `kvdistill train` writes it.")
        whole = self.path.read_bytes().rpartition(b"\n")[0]
        return [self._row(line, number) for number, line in enumerate(whole.splitlines(), start=1)]

    def series(self) -> dict[str, dict[int, float]]:
        """Values of each metric by step, in ascending order; of a step written twice (resume) the later row
        counts.
        """
        by_name: dict[str, dict[int, float]] = {}
        for row in self.read_rows():
            for name in row.keys() - {"step"}:
                by_name.setdefault(name, {})[int(row["step"])] = float(row[name])
        return {name: dict(sorted(values.items())) for name, values in sorted(by_name.items())}

    def _row(self, line: bytes, number: int) -> dict[str, float | int]:
        try:
            row = present_names(json.loads(line), METRICS)
            return {name: _from_json(value) for name, value in row.items()} | {"step": int(row["step"])}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{self.path}, line {number}: not a row of numbers with a step. Delete the line or train "
                "again."
            ) from error


def _line(path: Path, step: int, values: Mapping[str, float | int]) -> str:
    if "step" in values:
        raise ValueError(f"{path}: a metric is called step, which is the row's own key. Rename the metric.")
    row = {"step": int(step)} | {name: _to_json(value) for name, value in values.items()}
    return json.dumps(row) + "\n"


def _to_json(value: float | int) -> float | None:
    """A metric as it is stored: JSON has no value that is not finite."""
    if not isfinite(value):
        return None
    return float(value)


def _from_json(value: float | int | None) -> float | int:
    """A stored metric; anything but a number or null raises a TypeError."""
    if value is None:
        return float("nan")
    return value + 0
