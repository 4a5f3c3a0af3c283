"""Which layers of a teacher each layer of the student answers to, and by how much."""

from dataclasses import dataclass
from typing import Literal

from kvdistill.kv import Geometry, LayerGeometry


@dataclass(frozen=True, slots=True)
class LayerPair:
    """A teacher layer that a student layer answers to."""

    student: int
    teacher: int
    weight: float
    """Its share of the student layer; the shares of a student layer sum to 1."""


@dataclass(frozen=True, slots=True)
class LayerMap:
    """All pairs, in the order of the student's layers. Prints as a table."""

    pairs: tuple[LayerPair, ...]

    def __str__(self) -> str:
        """One line a student layer: the teacher's layers, with the share of each."""
        lines: dict[int, list[str]] = {}
        for pair in self.pairs:
            lines.setdefault(pair.student, []).append(f"{pair.teacher} ({pair.weight:.2f})")
        return "\n".join(
            [
                "student layer: teacher layers (weight)",
                *(f"{layer}: {', '.join(found)}" for layer, found in lines.items()),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The same relative depth: student layer l of L_s reads at ``l (L_t - 1) / (L_s - 1)`` between two
    teacher layers.

    The two neighbours get linear weights; a depth that is a whole number gives one layer, and a student of
    one layer reads the last. Neighbours of unlike kind (rotary, learned or no positions; sliding or full
    window) are not mixed: the nearer one stands alone, at a tie the lower.

    Source: ours.
    """

    kind: Literal["ratio"] = "ratio"

    def pair(self, student: Geometry, teacher: Geometry) -> LayerMap:
        """The teacher's layers for each layer of the student."""
        last, steps = len(teacher.layers) - 1, len(student.layers) - 1
        if steps == 0:
            return LayerMap((LayerPair(0, last, 1.0),))
        pairs = []
        for layer in range(steps + 1):
            lower, rest = divmod(layer * last, steps)
            share = rest / steps
            if rest and _kind(teacher.layers[lower]) != _kind(teacher.layers[lower + 1]):
                lower, share = lower + (share > 0.5), 0.0
            pairs += [LayerPair(layer, lower, 1 - share)] + (
                [LayerPair(layer, lower + 1, share)] if share else []
            )
        return LayerMap(tuple(pairs))


def _kind(layer: LayerGeometry) -> tuple[str, bool]:
    return layer.positional, layer.window is None
