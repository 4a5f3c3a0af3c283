"""``calibration.json``: how a run's teachers were aligned, and what their targets are worth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from kvdistill.records.jsonfile import JsonFile
from kvdistill.records.utility import TargetUtility

CALIBRATION = "calibration.json"
"""Its name in the run folder."""


@dataclass(frozen=True, kw_only=True)
class AdapterMap:
    """One map of an adapter, measured on samples that took no part in its fit."""

    layer: int
    """Student layer."""
    teacher_layers: list[int]
    """Teacher layers that it reads."""
    states: str
    """``keys`` or ``values``."""
    r2: float
    """1 - error / variance of the student's own cache."""
    penalty: float | None = None
    """Ridge penalty chosen, relative to the mean variance of the inputs; None for unfitted maps."""


@dataclass(frozen=True, kw_only=True)
class TeacherCalibration:
    """The alignment of one teacher."""

    teacher: str
    """Short name."""
    source: str
    """Folder or hub name of the model."""
    weight: float
    """Weight in the fusion."""
    steps: list[str]
    """What is done to its cache, one line per step."""
    covered: float
    """Share (0 to 1) of the student's tokens that it has read."""
    tokens: dict[str, int]
    """Tokens to fit the adapter, to choose its penalty and to report."""
    maps: list[AdapterMap]
    memory: int
    """Bytes of the regression's moments."""
    seconds: float
    """Seconds of its forward passes over the calibration text."""
    attention_cosine: list[float | None] | None = None
    """Cosine between the attention output of the student's answer with the aligned cache and with its own,
    per student layer, mean over held-out samples; None for a layer whose window does not reach the chain of
    thought, and without held-out samples.
    """

    def mean_r2(self, states: str) -> float:
        """Mean R² over the student's layers.

        Args:
            states: ``keys`` or ``values``.
        """
        found = [each.r2 for each in self.maps if each.states == states]
        return sum(found) / len(found)

    def mean_cosine(self) -> float | None:
        """Mean of ``attention_cosine`` over the layers where it was measured; None where it was not."""
        found = [each for each in self.attention_cosine or [] if each is not None]
        if not found:
            return None
        return sum(found) / len(found)


@dataclass(frozen=True, kw_only=True)
class TaskFitRecord:
    """Adapters trained by the cross-entropy of the answer, from ridge regression on."""

    teachers: list[str]
    """Teachers whose adapters were trained."""
    steps: int
    """Optimizer steps that were taken."""
    kept: int
    """Step whose adapters are kept: the likeliest answers on held-out samples; 0 is ridge regression."""
    held_out: list[list[float]]
    """Pairs of step and log-probability of the right answer in nats, mean over the samples that chose the
    step.
    """
    before: TargetUtility | None = None
    """Utility of the fused target with ridge regression, on samples that neither trained nor chose; None
    without any.
    """
    after: TargetUtility | None = None
    """The same with the adapters that are kept."""


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord(JsonFile):
    """``calibration.json``: all teachers of a run, and the utility of their targets before training."""

    made_by: ClassVar[str] = "kvdistill train"

    samples: int
    """Training samples that were read."""
    teachers: list[TeacherCalibration]
    scale: list[list[float]] | None = None
    """Standard deviations of the student's own keys and values per layer, by which the loss is divided."""
    targets: list[TargetUtility] | None = None
    """Utility of each target on held-out samples; None where the compressor keeps more than M tokens."""
    task: TaskFitRecord | None = None
    """How adapters were trained by the answer's cross-entropy; None where they were not."""

    def only(self, teachers: Sequence[str]) -> "CalibrationRecord":
        """The report without other teachers; without what was measured on the targets of all of them.

        Args:
            teachers: Short names of the teachers to keep.

        Returns:
            The report itself where no other teacher is in it.
        """
        kept = [each for each in self.teachers if each.teacher in teachers]
        if len(kept) == len(self.teachers):
            return self
        return replace(self, teachers=kept, targets=None, task=None)
