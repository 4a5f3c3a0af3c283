"""What a teacher is: something that gives a cache over a chain of thought for each batch."""

from typing import Protocol, runtime_checkable

from kvdistill.kv import Geometry, TeacherCache, TwoModes
from kvdistill.text import Batch


@runtime_checkable
class Teacher(Protocol):
    """One teacher. Frozen models stay outside the trained module tree: they are not trained or saved."""

    @property
    def name(self) -> str:
        """Its short name: key of the configuration, of logs and of checkpoints."""
        ...

    def fingerprint(self) -> str:
        """What tells its weights from others; the same for the same weights."""
        ...

    def geometry(self) -> Geometry:
        """Its attention layers."""
        ...

    def cache(self, batch: Batch, outputs: TwoModes) -> TeacherCache:
        """Its cache over the chain of thought of each sample, un-rotated, outside the autograd graph.

        Args:
            batch: what is read.
            outputs: both modes of the student on the same batch; a teacher that is the student reads them.
        """
        ...
