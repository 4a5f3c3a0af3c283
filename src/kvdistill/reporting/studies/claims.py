"""The three claims about the five experiments: each a few paired comparisons, judged by the rule of
``stats``.

A claim is supported if all of its comparisons are, not supported if any is, else inconclusive. Its p-value is
the largest of its comparisons' (Berger 1982, intersection-union test), corrected by Holm over the three
claims. An experiment that did not run leaves the claim inconclusive and its place in the family taken.
Differences without any spread tell nothing about chance, as when every run failed alike: below
``DEFAULT_SEEDS`` seeds they are inconclusive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from kvdistill.reporting.stats import Claim, Verdict, judge_family

DEFAULT_SEEDS = 8
_NO_SPREAD = 1e-9
Outcome = Literal["supported", "not supported", "inconclusive"]
Kind = Literal["superiority", "non_inferiority", "negligible"]
Measure = Literal["accuracy", "area", "roughness", "steps_to_90"]
Values = Mapping[str, Mapping[str, Mapping[int, float]]]
"""The number that a seed of an experiment came to: ``values[experiment][measure][seed]``."""
MEASURES: dict[Measure, str] = {
    "accuracy": "accuracy",
    "area": "area",
    "roughness": "roughness",
    "steps_to_90": "steps",
}
_BOUNDS: dict[Kind, str] = {"superiority": "> 0", "non_inferiority": "> −δ", "negligible": "< δ"}


class Question(NamedTuple):
    """Is ``first - second`` in this measure above 0, above -delta, or below delta? Delta is written δ."""

    first: str
    second: str
    kind: Kind = "superiority"
    measure: Measure = "accuracy"

    @property
    def name(self) -> str:
        """The question as a formula."""
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
"""Each claim with the comparisons that it is made of."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A question and what the seeds say. Numbers are of ``first - second`` in the measure's unit, None below
    two common seeds.
    """

    name: str
    first: str
    second: str
    measure: Measure
    kind: Kind
    delta: float
    seeds: list[int]
    """Seeds that both experiments have."""
    outcome: Outcome
    further_seeds: int | None
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    """Lower end of the 95 % interval of the mean."""
    high: float | None = None
    p_value: float | None = None
    p_sign_flip: float | None = None

    @property
    def has_interval(self) -> bool:
        """False with too few seeds, or too few for differences without any spread."""
        return self.sd is not None and (self.sd >= _NO_SPREAD or len(self.seeds) >= DEFAULT_SEEDS)


@dataclass(frozen=True, kw_only=True)
class JudgedClaim:
    """A claim and its verdict."""

    title: str
    outcome: Outcome
    comparisons: list[Comparison]
    p_value: float | None
    """Holm's over the three claims; None while a comparison cannot be made."""
    further_seeds: int | None
    """Where inconclusive: the largest number that a comparison needs."""
    to_run: dict[str, list[int]] = field(default_factory=dict)
    """Where inconclusive: the seeds to run of each experiment."""
    waits_for: list[str] = field(default_factory=list)
    """Experiments without a single value."""


def judge_claims(values: Values, deltas: Mapping[Measure, float]) -> list[JudgedClaim]:
    """The verdict on each of ``CLAIMS``; ``deltas`` holds the smallest difference that matters in each
    measure.

    Raises:
        ValueError: if a delta is not above 0.
    """
    verdicts = {
        title: [_judge(question, values, deltas) for question in questions]
        for title, questions in CLAIMS.items()
    }
    worst = {
        title: max(found, key=lambda v: v.p_value)
        for title, made in verdicts.items()
        if len(found := _tested(made)) == len(made)
    }
    family = dict(
        zip(worst, judge_family(list(worst.values()), num_untested=len(CLAIMS) - len(worst)), strict=True)
    )
    return [_claim(title, verdicts[title], values, deltas, family.get(title)) for title in CLAIMS]


def _tested(verdicts: Sequence[Verdict | None]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict is not None]


def _seeds(values: Values, experiment: str, measure: Measure) -> Mapping[int, float]:
    return values.get(experiment, {}).get(measure, {})


def _common(question: Question, values: Values) -> list[int]:
    return sorted(
        _seeds(values, question.first, question.measure).keys()
        & _seeds(values, question.second, question.measure).keys()
    )


def _judge(question: Question, values: Values, deltas: Mapping[Measure, float]) -> Verdict | None:
    """The verdict on one comparison; None below two common seeds."""
    claim = Claim(name=question.name, delta=deltas[question.measure], kind=question.kind)
    seeds = _common(question, values)
    if len(seeds) < 2:
        return None
    first, second = (_seeds(values, name, question.measure) for name in (question.first, question.second))
    verdict = claim.judge([first[seed] for seed in seeds], [second[seed] for seed in seeds])
    if verdict.sd < _NO_SPREAD and len(seeds) < DEFAULT_SEEDS:
        return replace(
            verdict,
            outcome="inconclusive",
            p_value=1.0,
            p_sign_flip=None,
            further_seeds=DEFAULT_SEEDS - len(seeds),
        )
    return verdict


def _comparison(question: Question, verdict: Verdict | None, values: Values, delta: float) -> Comparison:
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
    )


def _claim(
    title: str,
    verdicts: Sequence[Verdict | None],
    values: Values,
    deltas: Mapping[Measure, float],
    worst: Verdict | None,
) -> JudgedClaim:
    """The claim from its comparisons; ``worst`` is the one of the largest p-value, after Holm."""
    questions = CLAIMS[title]
    pairs = zip(questions, verdicts, strict=True)
    comparisons = [
        _comparison(question, verdict, values, deltas[question.measure]) for question, verdict in pairs
    ]
    outcome: Outcome = "inconclusive" if worst is None else worst.outcome
    if any(comparison.outcome == "not supported" for comparison in comparisons):
        outcome = "not supported"
    wanted = [comparison.further_seeds or 0 for comparison in comparisons]
    if worst is not None:
        place = [verdict is not None and verdict.claim == worst.claim for verdict in verdicts].index(True)
        wanted[place] = max(wanted[place], worst.further_seeds or 0)
    missing = [name for q in questions for name in (q.first, q.second) if not _seeds(values, name, q.measure)]
    is_open = outcome == "inconclusive"
    return JudgedClaim(
        title=title,
        outcome=outcome,
        comparisons=comparisons,
        p_value=None if worst is None else worst.p_value,
        further_seeds=max(wanted) if is_open else None,
        to_run=_to_run(questions, wanted, values) if is_open else {},
        waits_for=sorted(set(missing)),
    )


def _to_run(questions: Sequence[Question], wanted: Sequence[int], values: Values) -> dict[str, list[int]]:
    """Seeds that one side has already come first, then the smallest that nobody has."""
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
