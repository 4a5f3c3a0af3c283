"""The sections of an experiment report, made from a study's record alone."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from kvdistill.console.wording import number
from kvdistill.reporting.blocks import Block, Code, Table, Words, percent, percent_range
from kvdistill.reporting.drawing import draw
from kvdistill.reporting.page import Section
from kvdistill.reporting.studies.comparability import CLAIMED
from kvdistill.reporting.studies.experiments import seeds_in_words
from kvdistill.reporting.studies.figures import mean_curves, seed_dots
from kvdistill.reporting.studies.record import SPREAD_SEEDS, Estimate, Row, StudyRecord

_SEEDS_A_TABLE = 10


def ran(study: StudyRecord) -> Section:
    """Which seeds of each experiment count, and which are unfinished."""
    rows = [
        [
            row.experiment,
            row.what,
            seeds_in_words(row.seeds) or "not run",
            seeds_in_words(row.unfinished) or "–",
        ]
        for row in study.rows
    ]
    table = Table(("experiment", "what", "seeds that count", "not finished"), rows, words=True)
    return Section("What ran", [table, *map(Words, study.notes)])


def accuracy(study: StudyRecord, figures: Path) -> Section:
    """Accuracy by experiment, over seeds and of each seed.

    Args:
        study: the study's record.
        figures: prefix of the figures' file names.
    """
    shown = [row for row in study.rows if row.measures]
    if not shown:
        return Section("Accuracy", [Words("No finished and evaluated run yet.")])
    cells = [
        [
            row.experiment,
            str(len(row.seeds)),
            *_share(row, "accuracy"),
            *_points(row, "difference_to_e1"),
            *_means(row, "passes", "steps_to_90"),
        ]
        for row in shown
    ]
    header = (
        "experiment",
        "seeds",
        "accuracy",
        "95 % interval",
        "minus E1",
        "95 % interval",
        "passes",
        "steps to its 90 %",
    )
    if study.chance is not None:
        cells.append(["chance", "–", percent(study.chance), *["–"] * (len(header) - 3)])
    estimates = {row.experiment: row.measures["accuracy"] for row in shown}
    caption = "Test accuracy: a dot a seed, above them the mean and its 95 % interval."
    dots = draw(
        partial(seed_dots, estimates, study.chance), figures.with_name(f"{figures.name}accuracy.svg"), caption
    )
    return Section(
        "Accuracy",
        [
            Table(header, cells),
            *_each_seed(shown),
            Words(
                "Accuracy on the test set, averaged over questions inside a seed; the interval (Student's "
                "t) is the luck of the seed. "
                "Minus E1: points of accuracy over the seeds that both have. Passes: sequential forward "
                "passes a question. Steps to its 90 %: "
                "first step at which validation accuracy reached 90 % of the run's own last one; a run that "
                "ends low gets there soon, and "
                "one that ends at 0 counts with all its steps. Chance: always the most frequent answer of "
                "the test set."
            ),
            dots,
        ],
    )


def losses(study: StudyRecord) -> Section:
    """KV weights, and the last values of the loss terms."""
    names = ("kv_lower_bound", "ce_student", "ce_teacher", "kv", "codi")
    rows = [
        [row.experiment, _range(row.measures.get("kv_weight")), *_means(row, *names)]
        for row in study.rows
        if row.measures
    ]
    words = (
        "The KV weight as it multiplied the loss (lowest to highest seed where auto found it for each). "
        "Losses are unweighted, as logged last, and means over seeds. The lower bound is what E2's loss "
        "would come to for the best possible student."
    )
    header = ("experiment", "KV weight", "KV lower bound", "CE student", "CE teacher", "KV", "CODI")
    if not rows:
        return Section("Weights and last losses", [Words("None yet.")])
    return Section("Weights and last losses", [Table(header, rows), Words(words)])


def steadiness(study: StudyRecord, figures: Path) -> Section:
    """Validation curves with area and roughness, and the spread of accuracy over seeds.

    Args:
        study: the study's record.
        figures: prefix of the figures' file names.
    """
    shown = [row for row in study.rows if row.experiment in CLAIMED and row.measures]
    rows = [
        [row.experiment, *_share(row, "area"), *_points(row, "roughness", signed=False), *_spread(row)]
        for row in shown
    ]
    header = ("experiment", "area", "95 % interval", "roughness", "95 % interval", "spread", "95 % interval")
    words = (
        "Area: mean validation accuracy over training. Roughness: points lost in falls between neighbouring "
        "evaluations, all added up. "
        "Spread: standard deviation of test accuracy over seeds, in points; it is tested from "
        f"{SPREAD_SEEDS} common seeds on"
    )
    tested = (
        "; ".join(f"E4 below {other}: p = {p:.2g}" for other, p in study.less_spread.items())
        or "there are fewer"
    )
    curves = {row.experiment: list(row.curves.values()) for row in shown if row.curves}
    blocks: list[Block] = []
    if rows:
        blocks.append(Table(header, rows))
    blocks.append(Words(f"{words} ({tested})."))
    if curves:
        caption = (
            "Validation accuracy while training: mean over seeds, band from the lowest to the highest seed."
        )
        blocks.append(
            draw(partial(mean_curves, curves), figures.with_name(f"{figures.name}curves.svg"), caption)
        )
    return Section("Training curves", blocks)


def warnings(study: StudyRecord) -> Section:
    """Options and code that differ between runs although they should not."""
    said = []
    if study.unlike:
        said.append(
            "Verdicts rest on unlike runs. These options differ between runs that should differ in target "
            "and KV loss alone:"
        )
    said += study.warnings
    if not said:
        said = ["None: the runs differ in target and KV loss alone."]
    return Section("Warnings", [Words(line) for line in said])


def made(study: StudyRecord, command: str) -> Section:
    """Provenance: commands, commits, versions, hardware and training time."""
    first = {run.experiment: run for run in reversed(study.runs) if run.state == "counts"}
    commands = [f"{name}: {run.command or 'not recorded'}" for name, run in sorted(first.items())]
    counting = [run for run in study.runs if run.state == "counts"]
    started = "–"
    if counting:
        started = f"{min(run.started for run in counting)} to {max(run.started for run in counting)}"
    facts = {
        "commit": _list(run.commit or "not from a repository" for run in counting),
        "versions": _list(f"{name} {version}" for run in counting for name, version in run.versions.items()),
        "hardware": _list(run.hardware for run in counting),
        "started": started,
        "hours of training": f"{sum(run.seconds or 0 for run in counting) / 3600:.2g}",
    }
    blocks: list[Block] = [Table(("", ""), [list(fact) for fact in facts.items()], words=True)]
    if commands:
        blocks.append(Words("The first run of each experiment (EXPERIMENT_REPORT.json has them all):"))
        blocks.append(Code("\n".join(commands)))
    return Section("How it was made", [*blocks, Words("This report:"), Code(command)])


def _list(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values)) or "–"


def _each_seed(rows: Sequence[Row]) -> list[Table]:
    """Accuracy of each seed in percent, ten seeds per table."""
    seeds = sorted({seed for row in rows for seed in row.seeds})
    parts = [seeds[start : start + _SEEDS_A_TABLE] for start in range(0, len(seeds), _SEEDS_A_TABLE)]
    tables = []
    for part in parts:
        values = [[row.experiment, *(_cell(row.measures["accuracy"], seed) for seed in part)] for row in rows]
        tables.append(Table(("accuracy in %", *(f"seed {seed}" for seed in part)), values))
    return tables


def _cell(estimate: Estimate, seed: int) -> str:
    if seed not in estimate.by_seed:
        return "–"
    return f"{100 * estimate.by_seed[seed]:.1f}"


def _share(row: Row, name: str) -> list[str]:
    """Mean and interval of a share in percent; the interval is clipped to 0 to 100 %."""
    estimate = row.measures.get(name)
    if estimate is None:
        return ["–", "–"]
    if estimate.low is None or estimate.high is None:
        return [percent(estimate.mean), "–"]
    return [percent(estimate.mean), percent_range(max(0.0, estimate.low), min(1.0, estimate.high))]


def _points(row: Row, name: str, signed: bool = True) -> list[str]:
    """Mean and interval in percentage points."""
    estimate = row.measures.get(name)
    if estimate is None:
        return ["–", "–"]
    sign = "+" if signed else ""
    mean = f"{100 * estimate.mean:{sign}.1f}"
    if estimate.low is None or estimate.high is None:
        return [mean, "–"]
    return [mean, f"[{100 * estimate.low:{sign}.1f}, {100 * estimate.high:{sign}.1f}]"]


def _spread(row: Row) -> list[str]:
    if row.spread is None or row.spread_low is None or row.spread_high is None:
        return ["–", "–"]
    return [f"{100 * row.spread:.1f}", f"[{100 * row.spread_low:.1f}, {100 * row.spread_high:.1f}]"]


def _means(row: Row, *names: str) -> list[str]:
    means = {name: estimate.mean for name, estimate in row.measures.items()}
    return [number(means.get(name)) for name in names]


def _range(estimate: Estimate | None) -> str:
    """The mean, with the lowest and highest seed if they differ."""
    if estimate is None:
        return "–"
    low, high = min(estimate.by_seed.values()), max(estimate.by_seed.values())
    if low == high:
        return number(low)
    return f"{number(estimate.mean)} ({number(low)}–{number(high)})"
