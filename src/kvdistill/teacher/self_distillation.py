"""The student's own teacher mode as the teacher: self-distillation."""

from collections.abc import Callable
from dataclasses import dataclass

from kvdistill.kv import Geometry, TeacherCache, TwoModes
from kvdistill.text import Batch

OWN = "own"
"""The short name of self-distillation."""


@dataclass(frozen=True)
class SelfDistillation:
    """The cache of teacher mode, which the student's packed call has computed already.

    Source: KaVa, https://arxiv.org/abs/2510.02312, section 3.
    """

    read_geometry: Callable[[], Geometry]
    """The student's attention layers, measured when asked for."""
    name: str = OWN

    def fingerprint(self) -> str:
        """The same for every student: it learns, so that no weights identify it."""
        return "the student itself"

    def geometry(self) -> Geometry:
        """The student's attention layers."""
        return self.read_geometry()

    def cache(self, batch: Batch, outputs: TwoModes) -> TeacherCache:
        """Teacher mode's cache."""
        return TeacherCache(self.name, outputs.teacher.kv)
