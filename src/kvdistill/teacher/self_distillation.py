"""Self-distillation: the student's own teacher mode is the teacher."""

from collections.abc import Callable
from dataclasses import dataclass

from kvdistill.kv import Geometry, TeacherCache, TwoModes
from kvdistill.text import Batch

OWN = "own"
"""The short name of self-distillation."""


@dataclass(frozen=True)
class SelfDistillation:
    """The cache of teacher mode, which the student's packed forward pass has already computed.

    Source: KaVa, https://arxiv.org/abs/2510.02312, section 3.
    """

    read_geometry: Callable[[], Geometry]
    """Returns the student's attention layers; called when they are needed."""
    name: str = OWN
    reader: None = None
    """It reads what the student reads in teacher mode."""

    def fingerprint(self) -> str:
        """A constant: the student is trained, so no weights identify it.

        Returns:
            The same text for every student.
        """
        return "the student itself"

    def geometry(self) -> Geometry:
        """Attention layers of the student.

        Returns:
            One entry per attention layer.
        """
        return self.read_geometry()

    def cache(self, batch: Batch, outputs: TwoModes) -> TeacherCache:
        """The cache of teacher mode.

        Args:
            batch: Not used.
            outputs: Both modes of the student on the batch.

        Returns:
            Per layer un-rotated keys (B, H, N, K) and values (B, H, N, V), already outside the graph.
        """
        return TeacherCache(self.name, outputs.teacher.kv)
