"""Aligner: all alignment steps of one teacher, in their order."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from kvdistill.align.head_dim_adapter import Adapter
from kvdistill.align.key_norm import to_key_norm
from kvdistill.align.time_align import align_time
from kvdistill.kv import LayerGeometry, ModelKV
from kvdistill.text import TokenAlignment


class Aligner(nn.Module):
    """One teacher's cache in the student's tokens, layers, heads and widths.

    Order: tokens, then layers and heads, then the student's key norm. The input is un-rotated, so positions
    need no step of their own.

    Args:
        adapter: The maps from the teacher's layers and heads to the student's.

    Source: ours.
    """

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, kv: ModelKV, alignment: TokenAlignment | None) -> ModelKV:
        """Align a cache.

        Args:
            kv: The teacher's cache over the S tokens of its own chain of thought, un-rotated.
            alignment: Its tokens and the student's; None where they are the same.

        Returns:
            A cache over the student's N tokens in the student's geometry, un-rotated. Tokens that the teacher
            does not cover hold no meaning.
        """
        return to_key_norm(self.adapter.move(in_student_tokens(kv, alignment)), self.adapter.student)

    def regularizer(
        self,
        moved: ModelKV,
        student: ModelKV,
        scale: Float[Tensor, "L 2"] | None = None,
        all_reduce_sum: Callable[[Tensor], Tensor] | None = None,
    ) -> Float[Tensor, ""]:
        """The term that a trained adapter adds to the loss; see ``Adapter.regularizer``.

        Args:
            moved: The result of the aligner.
            student: The student's own cache over the same N tokens (teacher mode).
            scale: (L, 2), standard deviations of the student's keys and values, measured at calibration.
            all_reduce_sum: All-reduce sum over the processes of the run; None for a single one.

        Returns:
            A scalar; 0 for adapters that are not trained.
        """
        return self.adapter.regularizer(moved, student, scale, all_reduce_sum)

    def describe(self) -> str:
        """What is done to the teacher's cache.

        Returns:
            One line per step.
        """
        adapter = self.adapter
        pairs = [adapter.layer_map.of(index) for index in range(len(adapter.student.layers))]
        layers = "; ".join(
            f"{index} <- {', '.join(f'{pair.teacher} ({pair.weight:.2f})' for pair in found)}"
            for index, found in enumerate(pairs)
        )
        theirs = adapter.teacher.layers[-1]
        maps = type(adapter.method).__name__.lower()
        if adapter.method.one_map:
            maps += ", one map for all layers"
        lines = [
            f"layers: {layers}",
            f"heads: {_shape(theirs)}{_chosen(theirs)} -> {_shape(adapter.student.layers[-1])}, {maps}",
        ]
        if adapter.student.layers[0].key_norm is not None:
            lines.append("key norm: keys are projected onto the student's")
        if any(layer.positional == "learned" for layer in adapter.teacher.layers):
            lines.append("positions: the teacher's are learned and stay in its keys and values")
        return "\n".join(lines)


def in_student_tokens(kv: ModelKV, alignment: TokenAlignment | None) -> ModelKV:
    """A teacher's cache at the student's tokens, in the teacher's geometry.

    Args:
        kv: The cache over the S tokens of the teacher's chain of thought, un-rotated.
        alignment: Its tokens and the student's; None where they are the same.

    Returns:
        The cache over N tokens.
    """
    if alignment is None:
        return kv
    return align_time(kv, alignment)


def _chosen(layer: LayerGeometry) -> str:
    """Which heads are read, where they are not all."""
    if layer.head_ids is None:
        return ""
    return f" (of its heads {', '.join(map(str, layer.head_ids))})"


def _shape(layer: LayerGeometry) -> str:
    return f"{layer.heads} x {layer.key_width}"
