"""The runs of a study's arms and warm stages, read from their folders, and the options that differ."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kvdistill.config import FREE, with_defaults
from kvdistill.records.jsonfile import by_dotted_name
from kvdistill.records.schema import Curve, EvaluationRecord, Metrics, RunRecord
from kvdistill.records.study import StudyPlan, run_folder
from kvdistill.records.validation import last_accuracy, validation_curve
from kvdistill.reporting.studies.experiment_names import classify, option
from kvdistill.reporting.studies.experiments import seeds_in_words
from kvdistill.reporting.studies.falls import FALLING, loss_ends
from kvdistill.reporting.studies.judged import LossEnds

COMPLETED = "TRAINING_COMPLETED.txt"
_OWN = FREE | {"training.seed", "model.name", "evaluation.modes"}
"""Options that may differ between the runs of an arm."""


@dataclass(frozen=True, kw_only=True)
class ArmRun:
    """One run of an arm."""

    arm: str
    record: RunRecord
    method: str
    """What it trains, as ``experiments.classify`` names it."""
    counts: bool
    """Whether it is complete and evaluated."""
    accuracy: float | None = None
    """Share (0 to 1) of right answers on the test set, in the mode that was trained."""
    nats: float | None = None
    """Log-probability of the right answer, mean over questions."""
    by_depth: Mapping[int, float]
    """Accuracy by depth of the question; empty where it was not recorded."""
    passes: float | None = None
    chance: float | None = None
    curve: Curve | None = None
    """Validation accuracy over training steps."""
    losses: Mapping[str, LossEnds]
    """Both ends of the losses that a claim may say to fall, where at least two values were logged."""

    @property
    def minutes(self) -> float | None:
        """Wall time of the run."""
        if self.record.seconds is None:
            return None
        return self.record.seconds / 60


@dataclass(frozen=True, kw_only=True)
class WarmRun:
    """One run of a warm stage."""

    stage: str
    seed: int
    steps: int
    accuracy: float | None
    """Last validation accuracy."""
    minutes: float


def read_runs(folder: Path, plan: StudyPlan) -> tuple[list[ArmRun], list[str]]:
    """Read the runs of all arms.

    Args:
        folder: the study's folder.
        plan: its plan.

    Returns:
        The runs, by arm and seed, and one sentence for each that does not count.
    """
    runs, notes = [], []
    for arm, planned in plan.arms.items():
        for seed in planned.seeds:
            place = folder / run_folder(arm, seed)
            if not (place / "run.json").is_file():
                continue
            try:
                run = _read(place, arm)
            except (ValueError, OSError) as error:
                notes.append(f"{run_folder(arm, seed)} cannot be read and does not count: {error}")
                continue
            runs.append(run)
            if not (place / COMPLETED).is_file():
                notes.append(f"{run_folder(arm, seed)} is unfinished, running or cut off: it does not count.")
            elif not run.counts:
                notes.append(f"{run_folder(arm, seed)} is complete without an evaluation: it does not count.")
    return runs, notes


def read_warm_runs(folder: Path, plan: StudyPlan) -> list[WarmRun]:
    """Read the complete runs of the warm stages, by stage and seed.

    Args:
        folder: the study's folder.
        plan: its plan.
    """
    seeds = sorted({seed for arm in plan.arms.values() for seed in arm.seeds})
    found = []
    for stage in plan.warm:
        for seed in seeds:
            place = folder / run_folder(stage.name, seed, warm=True)
            if not (place / COMPLETED).is_file():
                continue
            record = RunRecord.read(place / "run.json")
            series = _series(place)
            steps = max((max(values) for values in series.values()), default=0)
            found.append(
                WarmRun(
                    stage=stage.name,
                    seed=seed,
                    steps=steps,
                    accuracy=last_accuracy(series),
                    minutes=(record.seconds or 0.0) / 60,
                )
            )
    return found


def _series(folder: Path) -> dict[str, dict[int, float]]:
    metrics = folder / "metrics.jsonl"
    if not metrics.is_file():
        return {}
    return Metrics(metrics).series()


def _read(folder: Path, arm: str) -> ArmRun:
    record = RunRecord.read(folder / "run.json")
    task = option(record.config, "training.task")
    series = _series(folder)
    evaluation = EvaluationRecord.find(folder / f"evaluation_test_{task}.json")
    run = ArmRun(
        arm=arm,
        record=record,
        method=classify(record.config),
        counts=False,
        by_depth={},
        curve=validation_curve(arm, series),
        losses=_losses(series),
    )
    if evaluation is None or not (folder / COMPLETED).is_file():
        return run
    return replace(
        run,
        counts=True,
        accuracy=evaluation.accuracy,
        passes=evaluation.sequential_passes_mean,
        chance=evaluation.chance,
        nats=evaluation.nats,
        by_depth={depth: count.accuracy for depth, count in (evaluation.by_depth or {}).items()},
    )


def _losses(series: Mapping[str, Mapping[int, float]]) -> dict[str, LossEnds]:
    found = {name: loss_ends(list(series.get(name, {}).values())) for name in FALLING}
    return {name: ends for name, ends in found.items() if ends is not None}


def options_by_arm(
    runs: Sequence[ArmRun], baseline: str | None
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Options in which arms differ from the baseline, and warnings on options that differ inside an arm.

    Args:
        runs: runs that count.
        baseline: the arm that the others are held against; None takes the first.

    Returns:
        Option and value (as JSON) by arm, and one sentence for each option that is not the same for all seeds
        of an arm.
    """
    flat: dict[str, dict[int, dict[str, str]]] = {}
    for run in runs:
        flat.setdefault(run.arm, {})[run.record.seed] = _comparable(run.record)
    if not flat:
        return {}, []
    base = flat.get(baseline or "", next(iter(flat.values())))
    reference = next(iter(base.values()))
    options, unlike = {}, []
    for arm, by_seed in flat.items():
        first = next(iter(by_seed.values()))
        options[arm] = {name: value for name, value in first.items() if reference.get(name) != value}
        for seed, own in by_seed.items():
            names = sorted(name for name in own.keys() | first.keys() if own.get(name) != first.get(name))
            if names:
                seeds = seeds_in_words(list(by_seed)[:1])
                unlike.append(
                    f"{arm}: seed {seed} differs from seed {seeds} in {', '.join(names)}, so its seeds are "
                    "no replications."
                )
    return options, unlike


def _comparable(record: RunRecord) -> dict[str, str]:
    """Options as JSON by dotted name, without those that differ between runs in any study.

    A run of another arm with the same seed, such as a teacher, is the same choice whatever the seed is.
    """
    options = by_dotted_name(with_defaults(record.config))
    same_seed = re.compile(rf"{run_folder('', record.seed)}(?![0-9])(/checkpoint-[^/\"]*)?")
    return {
        name: same_seed.sub("/seed*", json.dumps(value))
        for name, value in options.items()
        if name not in _OWN and not name.endswith(".seed")
    }
