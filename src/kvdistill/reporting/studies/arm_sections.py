"""The sections of a study's report, made from its numbers alone."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from kvdistill.config.study_stages import ROLES
from kvdistill.console.wording import number
from kvdistill.reporting.blocks import Block, Code, Table, Words, percent, percent_range
from kvdistill.reporting.drawing import draw
from kvdistill.reporting.page import Section
from kvdistill.reporting.palette import Method, experiment
from kvdistill.reporting.proportions import exact_interval
from kvdistill.reporting.studies.arm_figures import grid_curves
from kvdistill.reporting.studies.arms import ArmRow, StudyNumbers
from kvdistill.reporting.studies.experiments import seeds_in_words
from kvdistill.reporting.studies.figures import mean_curves, seed_dots
from kvdistill.reporting.survival import median_time

_MEASURES = "Accuracy, area (of the validation curve) and their differences are in percent or points"


def look(numbers: StudyNumbers, name: str) -> Method:
    """Label, color and marker of an arm: those of its experiment where it has one."""
    plan = numbers.plan.arms[name]
    found = experiment(plan.experiment or name)
    return Method(plan.label, found.tint, found.marker)


def ran(numbers: StudyNumbers) -> Section:
    """Which seeds of each arm count, and what each arm changes."""
    rows = [
        [
            row.plan.label,
            name,
            row.plan.experiment or "–",
            seeds_in_words(row.seeds) or "not run",
            seeds_in_words([seed for seed in row.plan.seeds if seed not in row.seeds]) or "–",
            _options(numbers, name),
        ]
        for name, row in numbers.rows.items()
    ]
    header = (
        "arm",
        "folder",
        "experiment",
        "seeds that count",
        "still to run",
        "differs from the baseline in",
    )
    return Section(
        "What ran", [Table(header, rows, words=True), *map(Words, [*numbers.warnings, *numbers.notes])]
    )


def _options(numbers: StudyNumbers, name: str) -> str:
    if name == numbers.plan.baseline:
        return "the baseline"
    options = _task_once(numbers.options.get(name, {}))
    return ", ".join(f"{option} = {value}" for option, value in options.items()) or "–"


def _task_once(options: Mapping[str, str]) -> dict[str, str]:
    """Options of the task that all data sets share under one name, ``task.``, as in a study file."""
    once: dict[str, str] = {}
    for option, value in options.items():
        data_set, _, name = option.partition(".task.")
        everywhere = [options.get(f"data.{role}.task.{name}") for role in ROLES]
        if name and data_set.startswith("data.") and everywhere == [value] * len(ROLES):
            once[f"task.{name}"] = value
        else:
            once[option] = value
    return once


def table(numbers: StudyNumbers, figures: Path) -> Section:
    """All arms with every measure, and their accuracies as a figure.

    Args:
        numbers: the study's numbers.
        figures: prefix of the figures' file names.
    """
    shown = {name: row for name, row in numbers.rows.items() if row.seeds}
    if not shown:
        return Section("Results", [Words("No complete and evaluated run yet.")])
    header = (
        "arm",
        "seeds",
        "accuracy",
        "95 % interval",
        "SD",
        "minus baseline",
        "95 % interval",
        "nats",
        "area",
        "passes",
        "minutes",
    )
    rows = [_cells(row, numbers.plan.primary) for row in shown.values()]
    if numbers.chance is not None:
        rows.append(["chance", "–", percent(numbers.chance), *["–"] * (len(header) - 3)])
    words = (
        f"{_MEASURES}; means over seeds, intervals from Student's t. SD: standard deviation of the accuracy "
        f"over seeds, in points. Minus baseline: the primary measure ({numbers.plan.primary}) over the seeds "
        "that both have. Nats: log-probability of the right answer. Passes: sequential forward passes a "
        "question."
    )
    blocks: list[Block] = [Table(header, rows), Words(words)]
    own = {name: row for name, row in shown.items() if row.plan.grid is None}
    if own:
        estimates = {name: row.measures["accuracy"] for name, row in own.items()}
        caption = "Test accuracy: a dot a seed, below them the mean and its 95 % interval."
        paint = partial(seed_dots, estimates, numbers.chance, look=partial(look, numbers))
        blocks.append(draw(paint, figures.with_name(f"{figures.name}accuracy.svg"), caption))
    return Section("Results", blocks)


def _cells(row: ArmRow, primary: str) -> list[str]:
    accuracy = row.measures["accuracy"]
    interval, spread, difference = "–", "–", ["–", "–"]
    if accuracy.low is not None and accuracy.high is not None:
        interval = percent_range(max(0.0, accuracy.low), min(1.0, accuracy.high))
    if row.spread is not None:
        spread = f"{100 * row.spread:.1f}"
    if "difference" in row.measures:
        difference = _signed(row, primary)
    return [
        row.plan.label,
        str(len(row.seeds)),
        percent(accuracy.mean),
        interval,
        spread,
        *difference,
        number(_mean(row, "nats")),
        percent(_mean(row, "area")),
        number(_mean(row, "passes")),
        number(_mean(row, "minutes"), digits=2),
    ]


def _signed(row: ArmRow, primary: str) -> list[str]:
    estimate = row.measures["difference"]
    scale, form = 100, "+.1f"
    if primary == "nats":
        scale, form = 1, "+.3f"
    if primary == "steps_to_90":
        scale = 1
    if estimate.low is None or estimate.high is None:
        return [f"{scale * estimate.mean:{form}}", "–"]
    low, high = scale * estimate.low, scale * estimate.high
    return [f"{scale * estimate.mean:{form}}", f"[{low:{form}}, {high:{form}}]"]


def _mean(row: ArmRow, measure: str) -> float | None:
    if measure not in row.measures:
        return None
    return row.measures[measure].mean


def _reached(row: ArmRow) -> str:
    """The median step at which the goal was reached, and how many seeds never did."""
    if not row.times:
        return "–"
    never = [seed for seed, time in row.times.items() if not time.reached]
    told = number(median_time(list(row.times.values())), absent="none")
    if not never:
        return told
    return f"{told} ({len(never)} never)"


def learning(numbers: StudyNumbers) -> list[Section]:
    """Which seeds learned and when, with exact tests against the baseline; empty without a baseline."""
    shown = {name: row for name, row in numbers.rows.items() if row.seeds}
    if numbers.plan.baseline not in shown:
        return []
    rows = []
    for row in shown.values():
        share = exact_interval(len(row.learned), len(row.seeds))
        rows.append(
            [
                row.plan.label,
                f"{len(row.learned)} of {len(row.seeds)}",
                percent_range(share.low, share.high),
                number(row.p_learned, digits=2),
                _reached(row),
                number(row.p_time, digits=2),
            ]
        )
    goal = f"{100 * numbers.plan.learned:g} %"
    header = ("arm", "seeds that learned", "95 % interval", "p, Fisher", f"steps to {goal}", "p, log-rank")
    words = (
        f"A seed has learned if its test accuracy is {goal} or more (Clopper-Pearson interval). Steps: "
        "median (Kaplan-Meier) until validation accuracy reached it; a seed that never did is censored at "
        "its last step. Both p-values are two-sided, against the baseline, and not corrected for the number "
        "of arms."
    )
    return [Section("Which seeds learn, and when", [Table(header, rows), Words(words)])]


def depths(numbers: StudyNumbers) -> list[Section]:
    """Accuracy by depth of the question; empty where no run recorded it."""
    levels = sorted({depth for row in numbers.rows.values() for depth in row.by_depth})
    if len(levels) < 2:
        return []
    rows = [
        [row.plan.label, *(percent(row.by_depth.get(depth)) for depth in levels)]
        for row in numbers.rows.values()
        if row.by_depth
    ]
    words = "Test accuracy by the number of dependent steps of a question, mean over seeds."
    return [Section("Accuracy by depth", [Table(("arm", *map(str, levels)), rows), Words(words)])]


def training(numbers: StudyNumbers, figures: Path) -> list[Section]:
    """Validation curves of the arms, and the curves of grids.

    Args:
        numbers: the study's numbers.
        figures: prefix of the figures' file names.
    """
    sections = []
    curves = {
        name: list(row.curves.values())
        for name, row in numbers.rows.items()
        if row.curves and row.plan.grid is None
    }
    if curves:
        caption = "Validation accuracy: mean over seeds, band from the lowest to the highest seed."
        paint = partial(mean_curves, curves, look=partial(look, numbers))
        picture = draw(paint, figures.with_name(f"{figures.name}curves.svg"), caption)
        sections.append(Section("Training curves", [picture]))
    for grid, label in numbers.plan.grids.items():
        points = [row for row in numbers.rows.values() if row.plan.grid == grid and row.seeds]
        if not points:
            continue
        caption = f"Test accuracy against {label}: mean over seeds with its 95 % interval."
        paint = partial(grid_curves, points, label)
        sections.append(
            Section(label, [draw(paint, figures.with_name(f"{figures.name}{grid}.svg"), caption)])
        )
    return sections


def warm(numbers: StudyNumbers) -> list[Section]:
    """The warm starts of each seed; empty where there are none."""
    if not numbers.warm:
        return []
    rows = [
        [run.stage, str(run.seed), str(run.steps), percent(run.accuracy), number(run.minutes, digits=2)]
        for run in numbers.warm
    ]
    header = ("warm stage", "seed", "steps", "validation accuracy", "minutes")
    return [Section("Warm starts", [Table(header, rows)])]


def made(numbers: StudyNumbers, command: str) -> Section:
    """Provenance: commits, hardware, training time and commands."""
    facts = {
        "study file": numbers.plan.file,
        "claims written": numbers.plan.planned,
        "first run": numbers.first_started or "–",
        "commit": ", ".join(numbers.commits) or "–",
        "hardware": ", ".join(numbers.hardware) or "–",
        "hours of training": f"{numbers.hours:.2g}",
    }
    blocks: list[Block] = [Table(("", ""), [list(fact) for fact in facts.items()], words=True)]
    if numbers.commands:
        blocks.append(Words("The first run of each arm:"))
        blocks.append(Code("\n".join(f"{name}: {line}" for name, line in numbers.commands.items())))
    return Section("How it was made", [*blocks, Words("This report:"), Code(command)])
