"""``utility.json``: how well a student answers with a target in the place of its latent cache."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import ClassVar

from kvdistill.records.intervals import mean_interval, wilson_interval
from kvdistill.records.jsonfile import JsonFile


@dataclass(frozen=True, kw_only=True)
class TargetUtility:
    """Answers behind one target; accuracy and its interval are computed from counts."""

    target: str
    """Name of the target."""
    num: int
    correct: int
    accuracy: float = field(init=False)
    low: float = field(init=False)
    """Lower end of the Wilson 95 % interval over questions."""
    high: float = field(init=False)
    nats: float
    """Log-probability of the right answer, its end token included, mean over questions, in nats."""
    nats_low: float | None = None
    """Lower end of its 95 % interval over questions; None for a single question."""
    nats_high: float | None = None
    chance: float | None = None
    """Accuracy of always giving the most frequent answer."""

    def __post_init__(self) -> None:
        interval = wilson_interval(self.correct, self.num)
        object.__setattr__(self, "accuracy", self.correct / self.num)
        object.__setattr__(self, "low", interval.low)
        object.__setattr__(self, "high", interval.high)


@dataclass(frozen=True, kw_only=True)
class UtilityRecord(JsonFile):
    """``utility.json``: the utility of several targets on the same questions."""

    made_by: ClassVar[str] = "kvdistill align inspect"

    data_set: str
    """Name of the data set that the questions are from."""
    targets: list[TargetUtility]


def utility_of(
    target: str, right: Sequence[bool], nats: Sequence[float], chance: float | None = None
) -> TargetUtility:
    """The record of one target, from a value per question.

    Args:
        target: Name of the target.
        right: Whether each question is answered correctly, at least one.
        nats: Log-probability of each right answer, in nats, in the same order.
        chance: Accuracy of always giving the most frequent answer.

    Returns:
        Counts and means; the interval of the mean where there are two questions or more.
    """
    low, high = None, None
    if len(nats) > 1:
        interval = mean_interval(nats)
        low, high = interval.low, interval.high
    return TargetUtility(
        target=target,
        num=len(right),
        correct=sum(right),
        nats=fmean(nats),
        nats_low=low,
        nats_high=high,
        chance=chance,
    )
