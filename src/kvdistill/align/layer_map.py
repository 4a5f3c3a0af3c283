"""Layer map: which teacher layers each student layer is compared with, and their weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

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

    def of(self, student: int) -> tuple[LayerPair, ...]:
        """The pairs of one student layer.

        Args:
            student: Student layer, counted from 0.

        Returns:
            Its pairs; their weights sum to 1.
        """
        return tuple(pair for pair in self.pairs if pair.student == student)

    def tensor(self) -> Float[Tensor, "P 3"]:
        """The pairs as numbers, for a checkpoint.

        Returns:
            (P, 3), float64: student layer, teacher layer, weight.
        """
        rows = [[pair.student, pair.teacher, pair.weight] for pair in self.pairs]
        return torch.tensor(rows, dtype=torch.float64)

    @staticmethod
    def of_tensor(pairs: Float[Tensor, "P 3"]) -> "LayerMap":
        """The map from a checkpoint.

        Args:
            pairs: The result of ``tensor``.

        Returns:
            The layer map.
        """
        return LayerMap(tuple(LayerPair(int(s), int(t), weight) for s, t, weight in pairs.tolist()))

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


class LayerSelector:
    """Base of the layer maps' methods."""

    needs_similarity: ClassVar[bool] = False
    """Whether ``pair`` needs the similarities of the layers, measured on calibration data."""

    def pair(
        self,
        student: Geometry,
        teacher: Geometry,
        similarity: Float[Tensor, "layers_s layers_t"] | None = None,
    ) -> LayerMap:
        """The teacher layers of each student layer.

        Args:
            student: The student's L_s attention layers.
            teacher: The teacher's L_t attention layers.
            similarity: (L_s, L_t), read where ``needs_similarity`` is set; the others ignore it.

        Returns:
            One or more pairs per student layer, counted from 0 over the attention layers of each model.

        Raises:
            ValueError: if the method cannot pair these two models.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Ratio(LayerSelector):
    """Equal relative depth: student layer l of L_s is matched at ``l (L_t - 1) / (L_s - 1)`` of the teacher.

    The two teacher layers around that depth get linear weights; an integer depth gives one layer, and a
    student of one layer gets the teacher's last. Neighbors of different kinds (rotary, learned or no
    positions; sliding or full window) are not mixed: the nearer one is used alone, at a tie the lower.

    Source: ours.
    """

    kind: Literal["ratio"] = "ratio"

    def pair(
        self,
        student: Geometry,
        teacher: Geometry,
        similarity: Float[Tensor, "layers_s layers_t"] | None = None,
    ) -> LayerMap:
        last, steps = len(teacher.layers) - 1, len(student.layers) - 1
        # A single layer has no relative depth (division by 0): it gets the last layer, next to the output.
        if steps == 0:
            return LayerMap((LayerPair(0, last, 1.0),))
        pairs = []
        for layer in range(steps + 1):
            # Integer division: depths that are integers are found exactly.
            lower, rest = divmod(layer * last, steps)
            share = rest / steps
            if rest and layer_kind(teacher.layers[lower]) != layer_kind(teacher.layers[lower + 1]):
                # At a tie, a share of 0.5, the lower layer is taken.
                lower, share = lower + (share > 0.5), 0.0
            pairs.append(LayerPair(layer, lower, 1 - share))
            if share:
                pairs.append(LayerPair(layer, lower + 1, share))
        return LayerMap(tuple(pairs))


@dataclass(frozen=True, kw_only=True)
class Nearest(LayerSelector):
    """The teacher layer nearest to the relative depth of ``ratio``, alone; at a tie the lower.

    Source: ours.
    """

    kind: Literal["nearest"] = "nearest"

    def pair(
        self,
        student: Geometry,
        teacher: Geometry,
        similarity: Float[Tensor, "layers_s layers_t"] | None = None,
    ) -> LayerMap:
        last, steps = len(teacher.layers) - 1, len(student.layers) - 1
        if steps == 0:
            return LayerMap((LayerPair(0, last, 1.0),))
        pairs = []
        for layer in range(steps + 1):
            # ceil(depth - 1/2) in integers: an exact tie goes to the lower layer.
            nearest = -((steps - 2 * layer * last) // (2 * steps))
            pairs.append(LayerPair(layer, nearest, 1.0))
        return LayerMap(tuple(pairs))


@dataclass(frozen=True, kw_only=True)
class LastAligned(LayerSelector):
    """Layers counted from the output: student layer l is matched with teacher layer ``l + L_t - L_s``.

    Source: ours.
    """

    kind: Literal["last_aligned"] = "last_aligned"

    def pair(
        self,
        student: Geometry,
        teacher: Geometry,
        similarity: Float[Tensor, "layers_s layers_t"] | None = None,
    ) -> LayerMap:
        skipped = len(teacher.layers) - len(student.layers)
        if skipped < 0:
            raise ValueError(
                f"layers.kind last_aligned: the student has {len(student.layers)} attention layers and the "
                f"teacher {len(teacher.layers)}, so the first {-skipped} would have no teacher layer. Set it "
                "to ratio, nearest or uniform."
            )
        return LayerMap(tuple(LayerPair(layer, layer + skipped, 1.0) for layer in range(len(student.layers))))


@dataclass(frozen=True, kw_only=True)
class Uniform(LayerSelector):
    """The mean of the ``L_t / L_s`` consecutive teacher layers that belong to a student layer.

    Both stacks are cut into equal parts of one length; a teacher layer's weight is its overlap with the
    student layer. Layers of different kinds are not mixed: the kind with the largest share is used, at a tie
    the one that comes first.

    Source: ours.
    """

    kind: Literal["uniform"] = "uniform"

    def pair(
        self,
        student: Geometry,
        teacher: Geometry,
        similarity: Float[Tensor, "layers_s layers_t"] | None = None,
    ) -> LayerMap:
        ours, theirs = len(student.layers), len(teacher.layers)
        pairs = []
        for layer in range(ours):
            # In units of 1 / (L_s L_t) of the stack: [l L_t, (l + 1) L_t) against [t L_s, (t + 1) L_s).
            start, stop = layer * theirs, (layer + 1) * theirs
            found = []
            for other in range(start // ours, (stop - 1) // ours + 1):
                overlap = min(stop, (other + 1) * ours) - max(start, other * ours)
                found.append(LayerPair(layer, other, overlap / theirs))
            pairs += keep_one_kind(found, teacher)
        return LayerMap(tuple(pairs))


def keep_one_kind(pairs: Sequence[LayerPair], teacher: Geometry) -> list[LayerPair]:
    """Drop the teacher layers of a student layer that are of another kind than the rest.

    Args:
        pairs: The pairs of one student layer.
        teacher: The teacher's attention layers.

    Returns:
        The pairs of the kind with the largest total weight (at a tie, the first), their weights scaled to
        sum to 1.
    """
    shares: dict[tuple[str, bool], float] = {}
    for pair in pairs:
        kind = layer_kind(teacher.layers[pair.teacher])
        shares[kind] = shares.get(kind, 0.0) + pair.weight
    # max returns the first of equals, and a dictionary keeps the order of insertion.
    best = max(shares, key=lambda kind: shares[kind])
    return [
        LayerPair(pair.student, pair.teacher, pair.weight / shares[best])
        for pair in pairs
        if layer_kind(teacher.layers[pair.teacher]) == best
    ]


def layer_kind(layer: LayerGeometry) -> tuple[str, bool]:
    """What a layer has in common with those that it may be mixed with.

    Args:
        layer: One attention layer.

    Returns:
        How positions enter it, and whether it attends to the complete text.
    """
    return layer.positional, layer.window is None
