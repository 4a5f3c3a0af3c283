"""The teacher protocol: a KV cache over the chain of thought of each batch."""

from typing import Protocol, runtime_checkable

from kvdistill.data.readers import Reader
from kvdistill.kv import Geometry, TeacherCache, TwoModes
from kvdistill.text import Batch


@runtime_checkable
class Teacher(Protocol):
    """A teacher. Frozen models are kept outside the trained module tree: they are not trained or saved."""

    @property
    def name(self) -> str:
        """Short name: its key in the configuration, in logs and in checkpoints."""
        ...

    @property
    def reader(self) -> Reader | None:
        """Its tokenizer and prompt template; None where it reads what the student reads in teacher mode."""
        ...

    def fingerprint(self) -> str:
        """Identify the teacher's weights.

        Returns:
            A short text, equal for equal weights.
        """
        ...

    def geometry(self) -> Geometry:
        """Attention layers of the teacher.

        Returns:
            One entry per attention layer: heads, widths, rotation.
        """
        ...

    def cache(self, batch: Batch, outputs: TwoModes) -> TeacherCache:
        """KV cache over the chain of thought of each sample, outside the autograd graph.

        Args:
            batch: B samples.
            outputs: Both modes of the student on the same batch; only self-distillation uses them.

        Returns:
            Per layer un-rotated keys (B, H, N, K) and values (B, H, N, V), with importance (B, H, N).
        """
        ...
