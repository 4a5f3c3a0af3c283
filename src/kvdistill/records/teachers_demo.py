"""``summary.json`` of the demo of several teachers."""

from dataclasses import dataclass
from typing import ClassVar

from kvdistill.records.jsonfile import JsonFile
from kvdistill.records.schema import Bar


@dataclass(frozen=True, kw_only=True)
class TeachersSummary(JsonFile):
    """Accuracies (0 to 1) on the test set, steps, utilities and bars of ``kvdistill demo-teachers``."""

    version: ClassVar[int | None] = None
    made_by: ClassVar[str] = "kvdistill demo-teachers"

    cot: float
    """The student's chains of thought, where all arms start."""
    direct: float
    fused: float
    """Both teachers, fused to one target."""
    self: float
    """Self-distillation with the same compressor, steps and warm start."""
    other_text: float
    """Control: the teachers read another question's chain of thought."""
    e1: float
    """No KV loss."""
    lift: float
    """The student projected to each teacher."""
    cyclic: float
    """The student's own cache through adapters."""
    random_teacher: float
    """Both teachers with random weights and fitted adapters."""
    alone: dict[str, float]
    """Each teacher alone, by its short name."""
    teachers: dict[str, float]
    """Each teacher's own chains of thought."""
    fused_over_cot: float
    steps_to_90_fused: int | None
    """First step at which validation accuracy reached 90 % of ``cot``; None if it never did."""
    steps_to_90_self: int | None
    utility_fused: float
    """Accuracy with the fused target in the place of the student's latents, before training, held out."""
    utility_self: float
    """The same with the student's own target."""
    utility_random: float
    """The same with the fused target of the random teachers."""
    minutes: float
    seed: int
    bars: dict[str, Bar]
