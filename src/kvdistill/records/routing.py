"""``routing.json``: the weights of a run's teachers in the fusion, by validation sample and by layer."""

from dataclasses import dataclass
from typing import ClassVar

from kvdistill.records.jsonfile import JsonFile

ROUTING = "routing.json"
"""Its name in the run folder."""


@dataclass(frozen=True, kw_only=True)
class RoutingRecord(JsonFile):
    """``routing.json``: the weights at the end of training.

    Raises:
        ValueError: if the lists do not fit each other.
    """

    made_by: ClassVar[str] = "kvdistill train"

    teachers: list[str]
    """Short names, in the order of the columns."""
    sample_ids: list[str]
    """Content keys of the validation samples, in the order of the rows."""
    weights: list[list[float]]
    """One row a sample, one weight (0 to 1) a teacher; mean over layers where weights are per layer. All 0
    where no teacher covers the sample.
    """
    layers: list[list[float]] | None = None
    """One row a student layer, one weight a teacher, mean over samples; None where all layers share weights.
    """
    best: list[str | None]
    """By the competence table the most competent of the teachers that cover the sample; of several the one
    with the largest weight. None where the table has none, or no teacher covers the sample.
    """

    def __post_init__(self) -> None:
        num_samples, num_teachers = len(self.sample_ids), len(self.teachers)
        if not len(self.weights) == len(self.best) == num_samples:
            raise ValueError(
                f"routing: {num_samples} samples, {len(self.weights)} rows of weights and {len(self.best)} "
                "best teachers. Give one of each a sample."
            )
        for row in [*self.weights, *(self.layers or [])]:
            if len(row) != num_teachers:
                raise ValueError(
                    f"routing: a row has {len(row)} weights, and there are {num_teachers} teachers "
                    f"({', '.join(self.teachers)}). Give one weight a teacher."
                )
        if unknown := sorted({name for name in self.best if name is not None} - set(self.teachers)):
            raise ValueError(
                f"routing: {', '.join(unknown)} is the best teacher of a sample and none of "
                f"{', '.join(self.teachers)}. Give the short names of the run's teachers."
            )

    @property
    def agreement(self) -> float | None:
        """Share (0 to 1) of the samples with a best teacher whose largest weight is that teacher's; None
        without such samples.
        """
        known = [(row, name) for row, name in zip(self.weights, self.best, strict=True) if name is not None]
        if not known:
            return None
        hits = [row.index(max(row)) == self.teachers.index(name) for row, name in known]
        return sum(hits) / len(hits)
