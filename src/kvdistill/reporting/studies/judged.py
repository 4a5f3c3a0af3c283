"""Judged claims as they stand in a record: comparisons, falling losses and relative gains."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kvdistill.reporting.stats import Outcome
from kvdistill.reporting.studies.estimate import Estimate

DEFAULT_SEEDS = 8
NO_SPREAD = 1e-9
"""Standard deviations below this count as zero."""
WIDE_GAP = 0.03
"""Relative gap between the validation and the training KV loss above which it is pointed out."""
GainOutcome = Literal["target met", "gain below target", "no gain", "inconclusive"]
ClaimOutcome = Literal[Outcome, GainOutcome]
Kind = Literal["superiority", "non_inferiority", "negligible"]
Measure = Literal["accuracy", "nats", "area", "roughness", "steps_to_90", "validation_kv"]
Values = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Measured values: ``values[experiment][measure][seed]``."""
MEASURES: dict[Measure, str] = {
    "accuracy": "accuracy",
    "nats": "nats",
    "area": "area",
    "roughness": "roughness",
    "steps_to_90": "steps",
    "validation_kv": "validation KV",
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of one comparison. Numbers are of ``first - second`` in the measure's unit, and None below
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
    """Lower end of the mean's 95 % interval."""
    high: float | None = None
    p_value: float | None = None
    p_sign_flip: float | None = None
    detectable: float | None = None
    """The true difference that these seeds would have found with power 0.8, in the direction of the formula;
    None without spread.
    """

    @property
    def has_interval(self) -> bool:
        """Whether the interval is meaningful: two seeds with some spread, or ``DEFAULT_SEEDS`` without."""
        return self.sd is not None and (self.sd >= NO_SPREAD or len(self.seeds) >= DEFAULT_SEEDS)


@dataclass(frozen=True, kw_only=True)
class LossEnds:
    """A loss at both ends of its log."""

    first: float
    """Mean of the first tenth of the logged values."""
    last: float
    """Mean of the last tenth."""

    @property
    def fell(self) -> bool:
        """Whether the end is below the beginning; False where one of them is not finite."""
        return self.last < self.first


@dataclass(frozen=True, kw_only=True)
class LossFall:
    """The losses of one arm over its seeds, beside the control's validation KV loss."""

    arm: str
    control: str
    outcome: Outcome
    seeds: list[int]
    """Seeds with all four losses."""
    first: dict[str, Estimate]
    """Beginning of each loss over seeds."""
    last: dict[str, Estimate]
    """End of each loss over seeds."""
    not_fallen: dict[str, list[int]]
    """Seeds in which a loss did not fall, by loss; empty where all fell."""
    below_control: Comparison
    """How far the arm's last validation KV loss is below the control's, as a share of the control's."""
    gap: Estimate | None
    """Last validation KV loss over the last training KV loss, minus 1, over seeds."""

    @property
    def wide(self) -> bool:
        """Whether the mean gap is above ``WIDE_GAP``."""
        return self.gap is not None and self.gap.mean > WIDE_GAP


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A relative gain (first - second) / second over seeds. Numbers are shares, None below two seeds."""

    first: str
    second: str
    measure: Measure
    seeds: list[int]
    """Seeds that both arms have, with a second value above 0."""
    outcome: GainOutcome
    further_seeds: int | None
    mean: float | None = None
    low: float | None = None
    """Lower end of the mean's 95 % interval."""
    high: float | None = None
    p_above_target: float | None = None
    """Twice the one-sided p-value of "the gain is above the least target"."""
    p_above_zero: float | None = None

    @property
    def name(self) -> str:
        """The gain as a formula."""
        return f"{MEASURES[self.measure]}: {self.first} / {self.second} − 1"


@dataclass(frozen=True, kw_only=True)
class JudgedClaim:
    """A claim and its verdict."""

    title: str
    outcome: ClaimOutcome
    comparisons: list[Comparison]
    p_value: float | None
    """After Holm over the claims of its family; None while a comparison cannot be made."""
    further_seeds: int | None
    """Where inconclusive: the largest number of seeds that one of its comparisons needs."""
    to_run: dict[str, list[int]] = field(default_factory=dict)
    """Where inconclusive: the seeds to run, by experiment."""
    waits_for: list[str] = field(default_factory=list)
    """Experiments without a value of a measure that the claim needs."""
    falls: list[LossFall] | None = None
    """The arms whose losses are claimed to fall; None in claims of another form."""
    gains: list[Gain] | None = None
    """The relative gains that are held against ``target``; None in claims of another form."""
    target: list[float] | None = None
    """Least and hoped-for relative gain, as shares."""
