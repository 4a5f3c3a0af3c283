"""The three claims about experiments E1 to E5: paired comparisons, judged by the rule of ``stats``.

A claim is supported if all of its comparisons are supported, not supported if any of them is not supported,
else inconclusive. Its p-value is the largest of its comparisons' (Berger 1982, intersection-union test),
corrected by Holm over the three claims. An experiment that did not run leaves its claim inconclusive, but the
claim still counts in the family. Differences without any spread (for example, all runs failed alike) allow no
statement about chance: below ``DEFAULT_SEEDS`` seeds they are inconclusive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from kvdistill.reporting.stats import Claim, Outcome, Verdict
from kvdistill.reporting.studies.family import judge_forms
from kvdistill.reporting.studies.judged import (
    DEFAULT_SEEDS,
    MEASURES,
    NO_SPREAD,
    Comparison,
    JudgedClaim,
    Kind,
    Measure,
    Values,
)

_BOUNDS: dict[Kind, str] = {"superiority": "> 0", "non_inferiority": "> −δ", "negligible": "< δ"}


class Question(NamedTuple):
    """A comparison to test: is ``first - second`` above 0, above -delta, or below delta (written δ)?

    ``first`` and ``second`` are experiments; ``kind`` decides among the three.
    """

    first: str
    second: str
    kind: Kind = "superiority"
    measure: Measure = "accuracy"
    delta: float | None = None
    """Smallest difference that matters, in the measure's unit; None takes that of all comparisons of it."""

    @property
    def name(self) -> str:
        """The comparison as a formula."""
        return f"{MEASURES[self.measure]}: {self.first} − {self.second} {_BOUNDS[self.kind]}"


CLAIMS: dict[str, tuple[Question, ...]] = {
    "Compression keeps the supervision": (Question("E2", "E1"), Question("E4", "E2", "non_inferiority")),
    "KV alignment adds to latent supervision": (
        Question("E4", "E1"),
        Question("E4", "E5"),
        Question("E5", "E1", "negligible"),
    ),
    "R-KV is the steadiest": (
        Question("E4", "E2", measure="area"),
        Question("E4", "E3", measure="area"),
        # Of these two, less is better.
        Question("E2", "E4", measure="roughness"),
        Question("E3", "E4", measure="roughness"),
        Question("E2", "E4", measure="steps_to_90"),
        Question("E3", "E4", measure="steps_to_90"),
    ),
}
"""Claim -> the comparisons that it consists of."""


def judge_claims(
    values: Values, deltas: Mapping[Measure, float], claims: Mapping[str, tuple[Question, ...]] = CLAIMS
) -> list[JudgedClaim]:
    """Judge each claim of a family.

    Args:
        values: measured values by experiment, measure and seed.
        deltas: smallest difference that matters, by measure, in its unit.
        claims: the comparisons that each claim consists of.

    Returns:
        One entry per claim, in order.

    Raises:
        ValueError: if a delta is not above 0.
    """
    forms = [
        ComparedClaim(title=title, questions=questions, values=values, deltas=deltas)
        for title, questions in claims.items()
    ]
    return judge_forms(forms)


@dataclass(frozen=True, kw_only=True)
class ComparedClaim:
    """A claim of comparisons, before it is judged in its family."""

    title: str
    questions: tuple[Question, ...]
    values: Values
    deltas: Mapping[Measure, float]

    def verdicts(self) -> list[Verdict | None]:
        """The test of each comparison; None below two common seeds."""
        return [judge(question, self.values, self.deltas) for question in self.questions]

    def conclude(self, worst: Verdict | None, num_open: int) -> JudgedClaim:
        """The claim with its verdict.

        Args:
            worst: the test of the largest p-value, after Holm; None where one cannot be made.
            num_open: not used.
        """
        pairs = list(zip(self.questions, self.verdicts(), strict=True))
        return _claim(self.title, pairs, self.values, self.deltas, worst)


def _delta(question: Question, deltas: Mapping[Measure, float]) -> float:
    """The smallest difference that matters to a comparison."""
    if question.delta is not None:
        return question.delta
    return deltas[question.measure]


def _seeds(values: Values, experiment: str, measure: Measure) -> Mapping[int, float]:
    return values.get(experiment, {}).get(measure, {})


def _common(question: Question, values: Values) -> list[int]:
    return sorted(
        _seeds(values, question.first, question.measure).keys()
        & _seeds(values, question.second, question.measure).keys()
    )


def judge(question: Question, values: Values, deltas: Mapping[Measure, float]) -> Verdict | None:
    """Test one comparison over the seeds that both experiments have; None below two of them.

    Args:
        question: the comparison.
        values: measured values by experiment, measure and seed.
        deltas: smallest difference that matters, by measure.
    """
    claim = Claim(name=question.name, delta=_delta(question, deltas), kind=question.kind)
    seeds = _common(question, values)
    if len(seeds) < 2:
        return None
    first, second = (_seeds(values, name, question.measure) for name in (question.first, question.second))
    verdict = claim.judge([first[seed] for seed in seeds], [second[seed] for seed in seeds])
    if verdict.sd < NO_SPREAD and len(seeds) < DEFAULT_SEEDS:
        return replace(
            verdict,
            outcome="inconclusive",
            p_value=1.0,
            p_sign_flip=None,
            further_seeds=DEFAULT_SEEDS - len(seeds),
        )
    return verdict


def judged_comparison(
    question: Question, verdict: Verdict | None, values: Values, delta: float
) -> Comparison:
    """A comparison with its test.

    Args:
        question: the comparison.
        verdict: its test; None where there are too few seeds.
        values: measured values by experiment, measure and seed.
        delta: smallest difference that matters.
    """
    seeds = _common(question, values)
    untested = Comparison(
        name=question.name,
        first=question.first,
        second=question.second,
        measure=question.measure,
        kind=question.kind,
        delta=delta,
        seeds=seeds,
        outcome="inconclusive",
        further_seeds=DEFAULT_SEEDS - len(seeds),
    )
    if verdict is None:
        return untested
    return replace(
        untested,
        outcome=verdict.outcome,
        further_seeds=verdict.further_seeds,
        mean=verdict.mean,
        sd=verdict.sd,
        low=verdict.interval.low,
        high=verdict.interval.high,
        p_value=verdict.p_value,
        p_sign_flip=verdict.p_sign_flip,
        detectable=_detectable(verdict),
    )


def _detectable(verdict: Verdict) -> float | None:
    """What the seeds could have shown; without any spread they say nothing about it."""
    if verdict.sd < NO_SPREAD:
        return None
    return verdict.detectable


def _claim(
    title: str,
    pairs: Sequence[tuple[Question, Verdict | None]],
    values: Values,
    deltas: Mapping[Measure, float],
    worst: Verdict | None,
) -> JudgedClaim:
    """Combine the comparisons of a claim; ``worst`` has the largest p-value, after Holm."""
    questions, verdicts = [question for question, _ in pairs], [verdict for _, verdict in pairs]
    comparisons = [
        judged_comparison(question, verdict, values, _delta(question, deltas)) for question, verdict in pairs
    ]
    outcome: Outcome = "inconclusive"
    p_value = None
    wanted = [comparison.further_seeds or 0 for comparison in comparisons]
    if worst is not None:
        outcome, p_value = worst.outcome, worst.p_value
        place = [verdict is not None and verdict.claim == worst.claim for verdict in verdicts].index(True)
        wanted[place] = max(wanted[place], worst.further_seeds or 0)
    if any(comparison.outcome == "not supported" for comparison in comparisons):
        outcome = "not supported"
    missing = [name for q in questions for name in (q.first, q.second) if not _seeds(values, name, q.measure)]
    claim = JudgedClaim(
        title=title,
        outcome=outcome,
        comparisons=comparisons,
        p_value=p_value,
        further_seeds=None,
        waits_for=sorted(set(missing)),
    )
    if outcome != "inconclusive":
        return claim
    return replace(claim, further_seeds=max(wanted), to_run=_to_run(questions, wanted, values))


def _to_run(questions: Sequence[Question], wanted: Sequence[int], values: Values) -> dict[str, list[int]]:
    """Seeds to run, by experiment: first those that one side already has, then the smallest unused ones."""
    runs: dict[str, set[int]] = {}
    for question, num in zip(questions, wanted, strict=True):
        sides = {
            name: _seeds(values, name, question.measure).keys() for name in (question.first, question.second)
        }
        first, second = sides.values()
        unused = (seed for seed in range(num + len(first | second)) if seed not in first | second)
        seeds = [*sorted(first ^ second), *unused][:num]
        for name, has in sides.items():
            runs.setdefault(name, set()).update(set(seeds) - has)
    return {name: sorted(seeds) for name, seeds in sorted(runs.items()) if seeds}
