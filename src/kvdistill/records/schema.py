"""The schema of what a run writes and a report reads.

Accuracies are shares from 0 to 1; ``made_by`` names the command that writes the file.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any, ClassVar, Literal

from kvdistill.records.jsonfile import JsonFile, write_atomic

Mode = Literal["latent", "cot", "cot_terse", "direct"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The range that a measured number may well have, in the unit of the number."""

    low: float
    high: float


def wilson_interval(correct: int, num: int, confidence: float = 0.95) -> Interval:
    """Interval of an accuracy over ``num`` questions of which ``correct`` were right.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.

    Raises:
        ValueError: if no question was asked, or more were right than asked.
    """
    if num < 1 or not 0 <= correct <= num:
        raise ValueError(
            f"{correct} correct of {num} questions is no accuracy: evaluate at least one question, count "
            "each at most once."
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = correct / num
    centre = (p + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * sqrt(p * (1 - p) / num + z * z / (4 * num * num))
    low = 0.0 if correct == 0 else centre - half
    return Interval(low=low, high=1.0 if correct == num else centre + half)


@dataclass(frozen=True, kw_only=True)
class RunRecord(JsonFile):
    """``run.json``: how a run was made."""

    config: dict[str, Any]
    """The resolved config, every default filled in."""
    versions: dict[str, str]
    """Version of each package that matters, and of Python."""
    commit: str | None
    """Git commit of the code; None outside a repository."""
    seed: int
    hardware: str
    """Device in words."""
    started: str
    """ISO 8601 time with its offset."""
    seconds: float | None
    """Wall time; None while the run goes on."""
    command: str | None = None
    """The command line as typed."""
    resumes: int = 0
    """How often the run was interrupted and taken up again."""
    processes: int = 1
    """How many processes shared out each batch."""
    data: str | None = None
    """Fingerprint of the training samples as token ids, of a stream of the names and lengths of its files;
    None for a streamed hub set.
    """


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord(JsonFile):
    """``evaluation.json``: one mode of a model on one data set. Accuracy and its interval follow from the
    counts.
    """

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
    """Forward passes that wait for each other, a question."""
    tokens_mean: float
    """Tokens (and latent slots) processed, a question."""
    ms_batch1: float | None
    """Milliseconds a question, one at a time; None where not timed."""
    ms_batch32: float | None
    """Milliseconds a question, in batches of 32; None where not timed."""
    answers: str | None = None
    """File with the answer to each question, relative to this file."""
    chance: float | None = None
    """Share of questions that the most frequent answer of the data set is right for; None in files of before
    it was recorded.
    """
    source: str | None = None
    """Path of the data as ``kvdistill evaluate`` was given it; None for a run's own evaluation."""

    def __post_init__(self) -> None:
        interval = wilson_interval(self.correct, self.num)
        for name, value in (
            ("accuracy", self.correct / self.num),
            ("low", interval.low),
            ("high", interval.high),
        ):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A value that a run had to reach; whether it did follows from the numbers."""

    value: float | None
    """None where it never came to be: not reached."""
    bar: float
    at_most: bool = False
    """True where smaller is better."""
    text: str | None = None
    """The value as it is shown, where the number alone would mislead."""
    reached: bool = field(init=False)

    def __post_init__(self) -> None:
        reached = self.value is not None and (
            self.value <= self.bar if self.at_most else self.value >= self.bar
        )
        object.__setattr__(self, "reached", reached)


@dataclass(frozen=True, kw_only=True)
class DemoSummary(JsonFile):
    """``summary.json``: the demo in a dozen numbers."""

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
    steps_to_90_e1: int | None
    """First step at which validation accuracy reached ``threshold``; None if it never did."""
    steps_to_90_kv: int | None
    passes_cot: float
    """Sequential forward passes a question."""
    passes_latent: float
    minutes: float
    cot_terse: float | None = None
    ms_cot: float | None = None
    """Milliseconds a question, one at a time."""
    ms_latent: float | None = None
    passes_cot_terse: float | None = None
    seed: int | None = None
    threshold: float = 0.9
    bars: dict[str, Bar] | None = None


@dataclass(frozen=True, kw_only=True)
class Curve(JsonFile):
    """``curve_*.json``: validation accuracy of one method while it trains."""

    method: str
    steps: list[int]
    accuracy: list[float]

    def __post_init__(self) -> None:
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


@dataclass(frozen=True, kw_only=True)
class ProbesRecord(JsonFile):
    """``probes.json``: are the latents used?"""

    made_by: ClassVar[str] = "kvdistill demo"

    zeroed: float
    """Accuracy with the latents set to zero."""
    swapped: float
    """Accuracy with the latents of another question."""
    fewer: dict[int, float]
    """Accuracy with this many slots."""
    top_words: list[list[str]]
    """Most likely words of each slot, best first."""
    step_match: list[float]
    """Share of questions whose slot i decodes to the result of step i."""
    source: str | None = None
    """Path of the data as ``kvdistill evaluate`` was given it; None for a demo's own probes."""


@dataclass(frozen=True)
class Metrics:
    """``metrics.jsonl``: one row ``{"step": ..., name: value, ...}`` a log, appended while the run goes on.

    A row counts once its line end is written. A value that is not finite is kept as null and read as NaN.
    """

    path: Path

    def append_row(self, step: int, values: Mapping[str, float | int]) -> None:
        """Add a row; what a killed process left of its last row is cut off first."""
        row = _line(self.path, step, values)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            file.seek(max(file.tell() - 1, 0))
            if file.read() not in (b"", b"\n"):
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            file.write(row.encode())

    def write_rows(self, rows: Iterable[tuple[int, Mapping[str, float | int]]]) -> None:
        """Replace the file by these rows: step and values of each."""
        write_atomic(self.path, "".join(_line(self.path, step, values) for step, values in rows))

    def read_rows(self) -> list[dict[str, float | int]]:
        """All whole rows, in the order written.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if a line other than a torn last one is no row of numbers, by its line number.
        """
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} does not exist: `kvdistill train` writes it.")
        whole = self.path.read_bytes().rpartition(b"\n")[0]
        return [self._row(line, number) for number, line in enumerate(whole.splitlines(), start=1)]

    def series(self) -> dict[str, dict[int, float]]:
        """Value by step of each name, steps rising; where a resumed run wrote a step again, the later row
        counts.
        """
        by_name: dict[str, dict[int, float]] = {}
        for row in self.read_rows():
            for name in row.keys() - {"step"}:
                by_name.setdefault(name, {})[int(row["step"])] = float(row[name])
        return {name: dict(sorted(values.items())) for name, values in sorted(by_name.items())}

    def _row(self, line: bytes, number: int) -> dict[str, float | int]:
        try:
            row = json.loads(line)
            return {name: float("nan") if value is None else value + 0 for name, value in row.items()} | {
                "step": int(row["step"])
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{self.path}, line {number}: not a row of numbers with a step. Delete the line or train "
                "again."
            ) from error


def _line(path: Path, step: int, values: Mapping[str, float | int]) -> str:
    if "step" in values:
        raise ValueError(f"{path}: a metric is called step, which is the row's own key. Rename the metric.")
    return (
        json.dumps(
            {"step": int(step)}
            | {name: float(value) if isfinite(value) else None for name, value in values.items()}
        )
        + "\n"
    )
