"""The claims of a study file as its plan holds them, with the names of their arms resolved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvdistill.config.claims import ClaimSection, Comparison, Measure, comparison, fall
from kvdistill.console.messages import did_you_mean
from kvdistill.records.study import ClaimPlan, ComparisonPlan, FallPlan, GainPlan

_MEASURES = ("accuracy", "nats", "area", "steps_to_90")


def claim_plan(claim: ClaimSection, primary: Measure, arm: Callable[[str], str], path: Path) -> ClaimPlan:
    """One claim of a study file for its plan.

    Args:
        claim: its section.
        primary: measure of comparisons that name none.
        arm: the arm of a name or of an experiment; raises a ValueError where there is none.
        path: the study file, for messages.

    Returns:
        The claim with arms and measures filled in.

    Raises:
        ValueError: naming the file and the misspelled arm or measure, with the nearest name.
    """
    measure = claim.measure or primary
    compared = [_compared(comparison(text), measure, claim, arm, path) for text in claim.compare]
    if claim.compare:
        return ClaimPlan(title=claim.title, comparisons=compared)
    if claim.falls:
        stated = map(fall, claim.falls)
        falls = [FallPlan(arm=arm(each.arm), control=arm(each.control)) for each in stated]
        return ClaimPlan(title=claim.title, comparisons=[], falls=falls, delta=claim.delta)
    gains = []
    for gain in map(comparison, claim.gain):
        own: Any = gain.measure or claim.measure or "area"
        gains.append(GainPlan(first=arm(gain.first), second=arm(gain.second), measure=own))
    return ClaimPlan(title=claim.title, comparisons=[], gains=gains, target=list(claim.target or ()))


def _compared(
    stated: Comparison, primary: Measure, claim: ClaimSection, arm: Callable[[str], str], path: Path
) -> ComparisonPlan:
    """A comparison; the claim's delta is in the unit of its primary measure."""
    measure: Any = stated.measure or primary
    if measure not in _MEASURES:
        raise ValueError(
            f"{path}, claim {claim.title!r}: there is no measure {measure!r}."
            f"{did_you_mean(measure, _MEASURES)} Choose one of {', '.join(_MEASURES)}."
        )
    delta = claim.delta
    if measure != primary:
        delta = None
    first, second = arm(stated.first), arm(stated.second)
    return ComparisonPlan(first=first, second=second, kind=stated.kind, measure=measure, delta=delta)
