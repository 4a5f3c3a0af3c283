"""Find the runs in a folder and classify each as an experiment, by its resolved configuration alone."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from kvdistill.records.schema import Curve, EvaluationRecord, Metrics, RunRecord
from kvdistill.records.validation import validation_curve
from kvdistill.reporting.studies.experiment_names import classify, option

LOSSES = ("ce_student", "ce_teacher", "codi", "kv", "kv_weight", "kv_lower_bound")
_SEED_FOLDER = re.compile(r"seed\d+")
_NAMED = re.compile(r"e[1-5](?!\d)|direct|explicit|cot", re.IGNORECASE)
"""The experiment that a folder's name promises, if any."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One readable run of a study."""

    folder: str
    """Relative to the study."""
    experiment: str
    record: RunRecord
    state: Literal["counts", "older", "unfinished", "not evaluated"]
    """``older`` where a newer finished run of the same experiment and seed counts."""
    progress: str
    """How far the training got, as text."""
    accuracy: float | None = None
    """Share (0 to 1) of right answers on the test set, in the mode that was trained."""
    passes: float | None = None
    """Sequential forward passes per question."""
    chance: float | None = None
    """Share of the most frequent answer of the test set, where it was recorded."""
    evaluation: EvaluationRecord | None = None
    """All that was measured on the test set, in the mode that was trained."""
    curve: Curve | None
    """Validation accuracy over training steps."""
    last: dict[str, float]
    """Last finite value of each of ``LOSSES`` that was logged; ``kv_weight`` also if it is a fixed number."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A set of runs that are compared with each other."""

    name: str
    """Its folder, relative to the folder that was searched."""
    runs: list[Run]
    notes: list[str]
    """What does not count and why, one sentence each."""

    @property
    def counting(self) -> list[Run]:
        """One finished and evaluated run for each experiment and seed."""
        return [run for run in self.runs if run.state == "counts"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """All runs in a folder."""

    studies: list[Study]
    others: list[str]
    """Folders of runs that belong to no study."""


def discover(base: Path) -> Found:
    """Find every study in a folder: a folder with runs in ``<experiment>/seed<k>/``.

    Args:
        base: the folder to search; it may itself be a study, or one experiment.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if not base.is_dir():
        raise FileNotFoundError(f"{base} is no folder: give the one that holds the runs, such as outputs.")
    runs = {path.parent for path in base.rglob("run.json")}
    # Folders of seeds whose run never wrote its run.json.
    empty = {
        path for path in base.rglob("seed*") if _SEED_FOLDER.fullmatch(path.name) and path.is_dir()
    } - runs
    by_study: dict[Path, list[Path]] = {}
    others = []
    for folder in sorted(runs, key=_natural):
        if folder != base and _SEED_FOLDER.fullmatch(folder.name):
            by_study.setdefault(_study_of(folder, base), []).append(folder)
        else:
            others.append(folder.relative_to(base).as_posix())
    for folder in sorted(empty, key=_natural):
        if (study := _study_of(folder, base)) in by_study:
            by_study[study].append(folder)
    names = {study: study.relative_to(base).as_posix() for study in by_study} | {base: base.resolve().name}
    studies = [_study(names[study], study, folders) for study, folders in by_study.items()]
    return Found(studies=studies, others=others)


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Seeds as text, neighbors as ranges: ``0–2, 5``."""
    groups: list[list[int]] = []
    for seed in sorted(seeds):
        if groups and seed == groups[-1][-1] + 1:
            groups[-1].append(seed)
        else:
            groups.append([seed])
    return ", ".join(map(_range_text, groups))


def _range_text(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return str(seeds[0])
    return f"{seeds[0]}–{seeds[-1]}"


def _study_of(folder: Path, base: Path) -> Path:
    if folder.parent == base:
        return base
    return folder.parent.parent


def _natural(path: Path) -> list[tuple[str, int]]:
    """Sort key that puts ``seed2`` before ``seed10``: texts, each with the number that follows it."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(text, int(number)) for text, number in zip(parts[::2], [*parts[1::2], -1], strict=True)]


def _study(name: str, study: Path, folders: Sequence[Path]) -> Study:
    runs, notes = [], []
    for folder in folders:
        where = folder.relative_to(study).as_posix()
        if not (folder / "run.json").is_file():
            notes.append(f"{where} holds no run.json: its run never began. Start it again.")
            continue
        try:
            runs.append(_read(folder, where))
        except (ValueError, OSError) as error:
            notes.append(f"{where} cannot be read and does not count: {error}")
    newest = {
        (run.experiment, run.record.seed): run for run in sorted(runs, key=_started) if run.state == "counts"
    }
    kept = []
    for run in runs:
        if run.state == "counts" and run not in newest.values():
            run = replace(run, state="older")
        kept.append(run)
        notes += _said(run, study / run.folder, newest.get((run.experiment, run.record.seed)))
    return Study(name=name, runs=kept, notes=notes)


def _started(run: Run) -> float:
    return datetime.fromisoformat(run.record.started).timestamp()


def _said(run: Run, folder: Path, newest: Run | None) -> list[str]:
    """Notes on a run: misnamed folders, and why it does not count."""
    said = []
    named = _NAMED.match(folder.parent.name)
    expected = {"explicit": "CoT", "cot": "CoT", "direct": "direct"}
    if named and (name := expected.get(named[0].lower(), named[0].upper())) != run.experiment:
        said.append(
            f"{run.folder} is {run.experiment} by its configuration, not {name}: it counts as "
            f"{run.experiment}."
        )
    if folder.name != f"seed{run.record.seed}":
        said.append(f"{run.folder} was trained with seed {run.record.seed}, which differs from its name.")
    if run.state == "older" and newest is not None:
        said.append(
            f"{run.folder} does not count: {newest.folder} is newer, and {run.experiment} with seed "
            f"{run.record.seed} as well."
        )
    if run.state == "unfinished":
        said.append(
            f"{run.folder} ({run.experiment}) is unfinished, running or cut off, {run.progress}: it does "
            "not count."
        )
    if run.state == "not evaluated":
        file = f"evaluation_test_{run.record.config['training']['task']}.json"
        said.append(
            f"{run.folder} ({run.experiment}) is finished without {file}: it does not count. Name a test "
            "set and train again."
        )
    return said


def _read(folder: Path, where: str) -> Run:
    record = RunRecord.read(folder / "run.json")
    datetime.fromisoformat(record.started)
    experiment = classify(record.config)
    metrics = folder / "metrics.jsonl"
    series = {}
    if metrics.is_file():
        series = Metrics(metrics).series()
    evaluation = EvaluationRecord.find(
        folder / f"evaluation_test_{option(record.config, 'training.task')}.json"
    )
    run = Run(
        folder=where,
        experiment=experiment,
        record=record,
        state="not evaluated",
        progress=_progress(record.config, series),
        curve=_curve(experiment, series, metrics),
        last=_last(record.config, series),
    )
    if evaluation is not None:
        run = replace(
            run,
            state="counts",
            evaluation=evaluation,
            accuracy=evaluation.accuracy,
            passes=evaluation.sequential_passes_mean,
            chance=evaluation.chance,
        )
    if not (folder / "TRAINING_COMPLETED.txt").is_file():
        run = replace(run, state="unfinished")
    return run


def _curve(experiment: str, series: Mapping[str, Mapping[int, float]], path: Path) -> Curve | None:
    try:
        return validation_curve(experiment, series)
    except ValueError as error:
        raise ValueError(f"{path}, validation_accuracy: {error}") from error


def _last(config: Mapping[str, Any], series: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    finite = {name: [value for value in series.get(name, {}).values() if isfinite(value)] for name in LOSSES}
    last = {name: values[-1] for name, values in finite.items() if values}
    given = option(config, "loss.kv_weight")
    if given != "auto" and option(config, "training.task") == "latent":
        last["kv_weight"] = float(given)
    return last


def _progress(config: Mapping[str, Any], series: Mapping[str, Mapping[int, float]]) -> str:
    """How far a run got; without ``max_steps`` the number of steps is estimated from the logged epochs."""
    step = max((max(values) for values in series.values()), default=0)
    if not step:
        return "before its first logged step"
    num_steps, epochs = option(config, "training.max_steps"), option(config, "training.epochs")
    if num_steps > 0:
        return f"at step {step} of {num_steps}"
    at, epoch = max(series.get("epoch", {}).items(), default=(0, 0.0))
    if epoch > 0:
        return f"at step {step} of about {round(at * epochs / epoch)}"
    return f"at step {step} of {epochs:g} epochs"
