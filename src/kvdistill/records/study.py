"""``plan.json``: what a study compares, as its report needs it, written before the first run."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from kvdistill.records.jsonfile import JsonFile

PLAN = "plan.json"
"""Name of the file in the study's folder."""
WARM = "warm"
"""Folder of the warm stages."""


def run_folder(arm: str, seed: int, warm: bool = False) -> str:
    """The folder of a run, relative to the study's.

    Args:
        arm: name of the arm, or of the warm stage.
        seed: the run's seed.
        warm: whether it is a warm stage.
    """
    name = f"{arm}/seed{seed}"
    if warm:
        return f"{WARM}/{name}"
    return name


@dataclass(frozen=True, kw_only=True)
class ArmPlan:
    """One arm."""

    label: str
    experiment: str | None = None
    """Its experiment, such as ``E4``, whose color it has."""
    seeds: list[int]
    grid: str | None = None
    """The grid it is a point of."""
    line: str | None = None
    """Label of the grid's line."""
    value: float | None = None
    """Place on the grid's axis."""


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """One comparison of a claim: ``first`` is better than ``second``, no worse, or no better."""

    first: str
    second: str
    kind: Literal["superiority", "non_inferiority", "negligible"]
    measure: Literal["accuracy", "nats", "area", "steps_to_90"]
    delta: float | None = None
    """Smallest difference that matters, in the measure's unit; None takes the study's."""


@dataclass(frozen=True, kw_only=True)
class FallPlan:
    """The losses of an arm fall, and its validation KV loss ends below the control's."""

    arm: str
    control: str


@dataclass(frozen=True, kw_only=True)
class GainPlan:
    """The relative gain (first - second) / second of a measure."""

    first: str
    second: str
    measure: Literal["accuracy", "area"]


@dataclass(frozen=True, kw_only=True)
class ClaimPlan:
    """One claim: all of its parts have to hold. It has comparisons, falls or gains."""

    title: str
    comparisons: list[ComparisonPlan]
    falls: list[FallPlan] | None = None
    gains: list[GainPlan] | None = None
    target: list[float] | None = None
    """Least and hoped-for relative gain, as shares."""
    delta: float | None = None
    """Smallest difference of ``falls`` that matters, as a share of the control's loss; None takes .02."""


@dataclass(frozen=True, kw_only=True)
class WarmPlan:
    """One stage of the warm start."""

    name: str
    require_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class StudyPlan(JsonFile):
    """``plan.json``."""

    made_by: ClassVar[str] = "kvdistill study run"

    name: str
    file: str
    """The study file, as named on the command line."""
    planned: str
    """ISO 8601 time at which the claims were first planned as they are here."""
    primary: str
    learned: float
    """Accuracy (0 to 1) from which a run counts as having learned."""
    delta: dict[str, float]
    """Smallest difference that matters, by measure, where the file gives it."""
    baseline: str | None = None
    arms: dict[str, ArmPlan]
    warm: list[WarmPlan]
    grids: dict[str, str] = field(default_factory=dict)
    """Label of each grid's axis."""
    claims: list[ClaimPlan]
