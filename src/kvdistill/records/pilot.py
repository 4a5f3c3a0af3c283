"""``pilot.json``: whether a candidate task can tell methods apart, with the figure of each criterion."""

from dataclasses import dataclass, field
from typing import ClassVar

from kvdistill.records.jsonfile import JsonFile


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One criterion, with what was measured."""

    name: str
    value: float | None
    """Mean over seeds; None where it was not measured, which counts as not met."""
    by_seed: dict[int, float] = field(default_factory=dict)
    low: float | None = None
    """Least value that meets it; None has no lower bound."""
    high: float | None = None
    """Largest value that meets it; None has no upper bound."""
    required: bool = True
    """False for a figure that is only reported, or that another one can stand in for."""

    @property
    def met(self) -> bool:
        """Whether the value is within its bounds, which are included."""
        if self.value is None:
            return False
        above = self.low is None or self.value >= self.low
        return above and (self.high is None or self.value <= self.high)

    @property
    def bounds(self) -> str:
        """The bounds as text."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        if self.low is not None:
            return f"at least {self.low:g}"
        if self.high is not None:
            return f"at most {self.high:g}"
        return "–"


@dataclass(frozen=True, kw_only=True)
class PilotRecord(JsonFile):
    """``pilot.json``."""

    made_by: ClassVar[str] = "kvdistill study pilot"

    candidate: str
    file: str
    primary: str
    seeds: list[int]
    accepted: bool
    reasons: list[str]
    """Why it is rejected, one phrase each; empty where it is accepted."""
    criteria: list[Criterion]
