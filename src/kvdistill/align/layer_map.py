"""Layer map: which teacher layers each student layer is compared with, and their weights."""

from dataclasses import dataclass
from typing import Literal

from kvdistill.kv import Geometry, LayerGeometry


@dataclass(frozen=True, slots=True)
class LayerPair:
    """A teacher layer that a student layer is compared with."""

    student: int
    """Student layer, counted from 0."""
    teacher: int
    """Teacher layer, counted from 0."""
    weight: float
    """Share of the teacher layer in the student layer's loss; a student layer's shares sum to 1."""


@dataclass(frozen=True, slots=True)
class LayerMap:
    """All pairs of student and teacher layers. Prints as a table."""

    pairs: tuple[LayerPair, ...]
    """In the order of the student's layers."""

    def __str__(self) -> str:
        """One line per student layer: its teacher layers and the share of each."""
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
    """Equal relative depth: student layer l of L_s is matched at ``l (L_t - 1) / (L_s - 1)`` of the teacher.

    The two teacher layers around that depth get linear weights; an integer depth gives one layer, and a
    student of one layer gets the teacher's last. Neighbors of different kinds (rotary, learned or no
    positions; sliding or full window) are not mixed: the nearer one is used alone, at a tie the lower.

    Source: ours.
    """

    kind: Literal["ratio"] = "ratio"

    def pair(self, student: Geometry, teacher: Geometry) -> LayerMap:
        """The teacher layers of each student layer.

        Args:
            student: The student's L_s attention layers.
            teacher: The teacher's L_t attention layers.

        Returns:
            One or two pairs per student layer, counted from 0 over the attention layers of each model.
        """
        last, steps = len(teacher.layers) - 1, len(student.layers) - 1
        # A single layer has no relative depth (division by 0): it gets the last layer, next to the output.
        if steps == 0:
            return LayerMap((LayerPair(0, last, 1.0),))
        pairs = []
        for layer in range(steps + 1):
            # Integer division: depths that are integers are found exactly.
            lower, rest = divmod(layer * last, steps)
            share = rest / steps
            if rest and _kind(teacher.layers[lower]) != _kind(teacher.layers[lower + 1]):
                # At a tie, a share of 0.5, the lower layer is taken.
                lower, share = lower + (share > 0.5), 0.0
            pairs.append(LayerPair(layer, lower, 1 - share))
            if share:
                pairs.append(LayerPair(layer, lower + 1, share))
        return LayerMap(tuple(pairs))


def _kind(layer: LayerGeometry) -> tuple[str, bool]:
    return layer.positional, layer.window is None
