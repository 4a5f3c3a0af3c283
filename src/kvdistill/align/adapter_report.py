"""Report of a fitted adapter: what it explains of the student's cache on held-out samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class MapReport:
    """One map of an adapter, measured on samples that took no part in the fit."""

    layer: int
    """Id of the student layer."""
    teacher_layers: tuple[int, ...]
    """Ids of the teacher layers that it reads."""
    states: Literal["keys", "values"]
    r2: float
    """1 - error / variance of the student's cache, over heads and channels; 0 where it has no variance."""
    penalty: float | None
    """Ridge penalty chosen, relative to the mean variance of the inputs; None for unfitted maps."""
    condition: float | None
    """Condition number of the penalized covariance of the inputs; None for unfitted maps."""


@dataclass(frozen=True, slots=True)
class AdapterReport:
    """All maps of an adapter, and the text that they were fitted on. Prints as a table."""

    maps: tuple[MapReport, ...]
    """Keys and values of the first student layer, of the second, ..."""
    tokens: Mapping[str, int]
    """Tokens to ``fit``, to ``choose`` the penalty and to ``report``."""

    def mean_r2(self, states: Literal["keys", "values"]) -> float:
        """Mean R² over the student's layers.

        Args:
            states: Keys or values.

        Returns:
            The mean over layers on held-out samples.
        """
        found = [each.r2 for each in self.maps if each.states == states]
        return sum(found) / len(found)

    def __str__(self) -> str:
        """The tokens, then one line per map."""
        counts = ", ".join(f"{count} to {part}" for part, count in self.tokens.items())
        lines = [f"tokens: {counts}", "student layer <- teacher layers: R² (penalty, condition)"]
        for each in self.maps:
            theirs = ", ".join(map(str, each.teacher_layers))
            line = f"{each.layer} {each.states} <- {theirs}: {each.r2:.3f}"
            if each.penalty is not None and each.condition is not None:
                line += f" ({each.penalty:.0e}, {each.condition:.1e})"
            lines.append(line)
        return "\n".join(lines)
