"""Sections of an experiment report: log-probability, accuracy by depth, how often and how soon runs learn."""

from kvdistill.console.wording import number
from kvdistill.reporting.blocks import Table, Words, percent, percent_range
from kvdistill.reporting.nats import EXPLAINED, nats, nats_range
from kvdistill.reporting.page import Section
from kvdistill.reporting.studies.estimate import Estimate
from kvdistill.reporting.studies.learning import FRACTION, Learning
from kvdistill.reporting.studies.record import StudyRecord


def log_probability(study: StudyRecord) -> list[Section]:
    """Log-probability of the right answer by experiment, beside E1.

    Returns:
        One section; none where no run recorded it.
    """
    rows = []
    for row in study.rows:
        own, difference = row.measures.get("nats"), row.measures.get("nats_difference_to_e1")
        if own is None:
            continue
        to_base, interval = "–", "–"
        if difference is not None:
            to_base = f"{difference.mean:+.3g}"
            if difference.low is not None and difference.high is not None:
                interval = f"[{difference.low:+.3g}, {difference.high:+.3g}]"
        span = nats_range(own.low, own.high)
        rows.append([row.experiment, str(len(own.by_seed)), nats(own.mean), span, to_base, interval])
    if not rows:
        return []
    header = ("experiment", "seeds", "nats", "95 % interval", "minus E1", "95 % interval")
    told = f"{EXPLAINED} Means over seeds with Student's t interval; minus E1 over the seeds that both have."
    return [Section("Log-probability of the right answer", [Table(header, rows), Words(told)])]


def depths(study: StudyRecord) -> list[Section]:
    """Accuracy by experiment and depth.

    Returns:
        One section; none where fewer than two depths were recorded.
    """
    table = study.by_depth or {}
    known = sorted({depth for estimates in table.values() for depth in estimates})
    if len(known) < 2:
        return []
    rows = [
        [name, *(_mean_and_half(estimates.get(depth)) for depth in known)]
        for name, estimates in table.items()
    ]
    told = (
        "Depth: the number of dependent steps from question to answer. Test accuracy, mean over seeds, with "
        "half of its 95 % interval (Student's t) where there are several seeds."
    )
    header = ("experiment", *(f"depth {depth}" for depth in known))
    return [Section("Accuracy by depth", [Table(header, rows), Words(told)])]


def learning(study: StudyRecord) -> list[Section]:
    """Share of runs that learn, and steps to the goal, each beside E1.

    Returns:
        One section; none where no run counts, or in a record of an older version.
    """
    if not study.learning or study.goal is None:
        return []
    header = ("experiment", "learned", "95 % interval", "p", "at the goal", "median step", "p")
    goal = f"{percent(study.goal)} right"
    if study.row("CoT").measures:
        goal += f", {100 * FRACTION:g} % of the mean test accuracy of the chain of thought"
    told = (
        f"The goal is {goal}. Learned: runs whose test accuracy is at the goal, with the exact "
        "(Clopper-Pearson) interval of their share; p: Fisher's exact test against E1. At the goal: runs "
        "whose validation accuracy got there at some evaluation; median step: the first such evaluation "
        "(Kaplan-Meier), where a run that never got there counts as censored at its last step; p: log-rank "
        "test against E1. Each p is two-sided, of one comparison, and takes seeds as independent."
    )
    rows = [_learning_cells(row) for row in study.learning]
    return [Section("How often and how soon", [Table(header, rows), Words(told)])]


def _learning_cells(row: Learning) -> list[str]:
    reached = "–"
    if row.num_timed:
        reached = f"{row.num_reached} of {row.num_timed}"
    never = "–"
    if row.num_timed and row.steps is None:
        never = "later"
    return [
        row.experiment,
        f"{row.learned} of {row.num}",
        percent_range(row.low, row.high),
        number(row.p_learned, digits=2),
        reached,
        number(row.steps, never),
        number(row.p_steps, digits=2),
    ]


def _mean_and_half(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.mean:.1f}"
    return f"{100 * estimate.mean:.1f} ± {50 * (estimate.high - estimate.low):.1f}"
