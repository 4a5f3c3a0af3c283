"""The claims' sections of an experiment report: verdicts with all their numbers."""

from functools import partial
from pathlib import Path

from kvdistill.reporting.blocks import Block, Table, Words, percent
from kvdistill.reporting.drawing import draw
from kvdistill.reporting.page import Section
from kvdistill.reporting.studies.experiments import seeds_in_words
from kvdistill.reporting.studies.figures import forest
from kvdistill.reporting.studies.judged import Comparison, JudgedClaim
from kvdistill.reporting.studies.record import StudyRecord

DETECTABLE = (
    'The column "detectable at 80 % power": the smallest true difference that a test on this many seeds '
    "finds with a probability of 80 %, at their standard deviation"
)
"""What the column holds, as the beginning of a sentence."""
HEADER = (
    "comparison",
    "seeds",
    "difference",
    "95 % interval",
    "p",
    "flips",
    "δ",
    "detectable at 80 % power",
    "outcome",
)
RULES = (
    ("> 0", "above 0", "below δ"),
    ("> −δ", "above −δ", "below 0"),
    ("< δ", "below δ", "above 0"),
)
_HOW = (
    "A claim is supported if all of its comparisons are and its p-value, the largest of theirs after Holm "
    "over the three claims, is below "
    "0.05. It is not supported if any comparison is not. Else it is inconclusive. p: twice the one-sided "
    "p-value of the paired t test. "
    "flips: the same of the sign-flip test, from 6 seeds on. Below 8 seeds, differences without any spread "
    "say nothing about chance: "
    f"inconclusive. {DETECTABLE} (noncentral t): at least it, or for a bound < δ at most it."
)


def claims(study: StudyRecord, delta: float, figures: Path) -> list[Section]:
    """One section per claim with its verdict and comparisons, and one on how verdicts are made.

    Args:
        study: the study's record.
        delta: smallest difference of accuracy that matters, as a share.
        figures: prefix of the figures' file names.
    """
    sections = [
        Section(
            f"Claim {place}. {claim.title}: {claim.outcome.upper()}{study.caveat}",
            [
                Table(HEADER, [comparison_cells(comparison) for comparison in claim.comparisons]),
                *_needs(claim, study),
            ],
        )
        for place, claim in enumerate(study.claims, start=1)
    ]
    units = (
        "Differences are paired by seed, in the direction that their formula names; those of accuracy, area "
        "and roughness in points. δ, "
        f"the smallest difference that matters, is {100 * delta:g} points, and in steps one evaluation "
        "interval "
        f"({study.claims[-1].comparisons[-1].delta:g}). A comparison is judged by its interval:"
    )
    blocks: list[Block] = [
        Words(units),
        Table(("comparison", "supported", "not supported"), RULES, words=True),
        Words(_HOW),
    ]
    if any(comparison.mean is not None for claim in study.claims for comparison in claim.comparisons):
        caption = (
            "Every comparison in units of its δ: its 95 % interval, and the bound (upright tick) that "
            "it has to clear."
        )
        blocks.append(
            draw(partial(forest, study.claims), figures.with_name(f"{figures.name}claims.svg"), caption)
        )
    return [*sections, Section("How verdicts are made", blocks)]


def control(study: StudyRecord) -> Section:
    """The shuffled control (E5) compared with the baseline (E1) and with R-KV (E4)."""
    rows = [study.row(name) for name in ("E5", "E1", "E4")]
    if missing := [row.experiment for row in rows if not row.measures]:
        return Section(
            "The shuffled control",
            [Words(f"It cannot be compared yet: no run of {', '.join(missing)} counts.")],
        )
    means = ", ".join(f"{row.experiment} {percent(row.measures['accuracy'].mean)}" for row in rows)
    # The second claim's comparisons: E4 - E5 and E5 - E1.
    own, shuffled = (study.claims[1].comparisons[place] for place in (1, 2))
    to_baseline = _sided(
        shuffled,
        "Shuffled targets help",
        "Shuffled targets harm",
        "These seeds show no effect of shuffled targets",
    )
    if (
        shuffled.has_interval
        and shuffled.low is not None
        and shuffled.high is not None
        and shuffled.low < shuffled.delta
    ):
        beyond = "ruled out" if shuffled.high < shuffled.delta else "not ruled out"
        to_baseline += f" A gain of {100 * shuffled.delta:g} points is {beyond}."
    to_rkv = _sided(
        own,
        "R-KV does better on its own targets",
        "R-KV does worse on its own targets",
        "These seeds do not tell the two apart",
    )
    return Section(
        "The shuffled control",
        [
            Words(f"Right answers, mean over seeds: {means}."),
            Words(f"E5 beside E1: {to_baseline}"),
            Words(f"E4 beside E5: {to_rkv}"),
        ],
    )


def comparison_cells(c: Comparison) -> list[str]:
    """The row of a comparison, under ``HEADER``."""
    scale, form = 100, "+.1f"  # shares are shown in points
    if c.measure == "steps_to_90":
        scale = 1
    if c.measure == "nats":
        scale, form = 1, "+.3f"
    mean, interval, p_value, flips, shows = "–", "–", "–", "–", "–"
    if c.mean is not None and c.low is not None and c.high is not None and c.p_value is not None:
        mean, p_value = f"{scale * c.mean:{form}}", f"{c.p_value:.2g}"
        interval = f"[{scale * c.low:{form}}, {scale * c.high:{form}}]"
    if c.p_sign_flip is not None:
        flips = f"{c.p_sign_flip:.2g}"
    if c.detectable is not None:
        bound = {"negligible": "≤"}.get(c.kind, "≥")
        shows = f"{bound} {scale * c.detectable:{form}}"
    delta = f"{scale * c.delta:g}"
    return [c.name, str(len(c.seeds)), mean, interval, p_value, flips, delta, shows, c.outcome]


def _needs(claim: JudgedClaim, study: StudyRecord) -> list[Words]:
    """The p-value of a claim, and what an inconclusive one needs: experiments, curves, seeds."""
    said = []
    if claim.p_value is not None:
        said.append(f"p = {claim.p_value:.2g} after Holm over the three claims.")
    has_runs = {name: bool(study.row(name).measures) for name in claim.waits_for}
    if absent := [name for name, has in has_runs.items() if not has]:
        said.append(f"It waits for {', '.join(absent)}, of which no run counts.")
    if flat := [name for name, has in has_runs.items() if has]:
        said.append(
            f"It waits for validation curves of {', '.join(flat)}: train with a data.validation and "
            "training.eval_steps above 0."
        )
    if claim.further_seeds is not None:
        by_seeds: dict[str, list[str]] = {}
        for name, seeds in claim.to_run.items():
            by_seeds.setdefault(seeds_in_words(seeds), []).append(name)
        runs = "; ".join(f"{', '.join(names)} with seeds {seeds}" for seeds, names in by_seeds.items())
        said.append(f"It needs {claim.further_seeds} more seeds: run {runs}.")
    if not said:
        return []
    return [Words(" ".join(said))]


def _sided(c: Comparison, above: str, below: str, between: str) -> str:
    """One of three sentences, by whether the interval of a difference is above, below or around 0."""
    if c.mean is None or c.low is None or c.high is None:
        return (
            f"Nothing can be said yet: they have {len(c.seeds)} of the 2 common seeds that it takes at least."
        )
    interval = f"[{100 * c.low:+.1f},\N{NO-BREAK SPACE}{100 * c.high:+.1f}]"
    numbers = f"{c.first} − {c.second} is {100 * c.mean:+.1f} points {interval} over {len(c.seeds)} seeds"
    if not c.has_interval:
        return f"Nothing can be said about chance yet: {numbers}, without any spread."
    if c.low > 0:
        return f"{above}: {numbers}."
    if c.high < 0:
        return f"{below}: {numbers}."
    return f"{between}: {numbers}."
