"""Adapters without calibration: mean over groups of heads, repeated heads, identity."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kvdistill.align.adapter_base import AdapterSettings, Block, affine_map
from kvdistill.align.layer_map import LayerMap
from kvdistill.kv import Geometry


@dataclass(frozen=True, kw_only=True)
class GroupMean(AdapterSettings):
    """The mean over groups of consecutive teacher heads, for equal widths: a baseline without calibration.

    Source: ours; as heads are pooled for GQA: https://arxiv.org/abs/2305.13245, section 2.1.
    """

    kind: Literal["group_mean"] = "group_mean"

    def check(self, student: Geometry, teacher: Geometry, layer_map: LayerMap) -> None:
        """Widths have to be equal, and the numbers of heads multiples."""
        for pair in layer_map.pairs:
            ours, theirs = student.layers[pair.student], teacher.layers[pair.teacher]
            _require_widths(self.kind, student, teacher, pair.student, pair.teacher)
            if theirs.heads % ours.heads:
                raise ValueError(
                    f"group_mean: {theirs.heads} teacher heads do not divide into {ours.heads} groups "
                    f"(student layer {pair.student}, teacher layer {pair.teacher}). Use ridge."
                )

    def start(self, block: Block, draw: torch.Generator) -> nn.Module:
        """Each student head reads its group of teacher heads, channel by channel."""

        def group(heads: int) -> Tensor:
            size = heads // block.student_heads
            return torch.eye(block.student_heads).repeat_interleave(size, dim=1) / size

        return affine_map(_by_heads(block, [group(heads) for heads in block.heads]))


@dataclass(frozen=True, kw_only=True)
class Repeat(AdapterSettings):
    """Each teacher head for a group of consecutive student heads, for equal widths: a baseline.

    Source: ours; as grouped-query attention repeats heads: https://arxiv.org/abs/2305.13245, section 2.2.
    """

    kind: Literal["repeat"] = "repeat"

    def check(self, student: Geometry, teacher: Geometry, layer_map: LayerMap) -> None:
        """Widths have to be equal, and the numbers of heads multiples."""
        for pair in layer_map.pairs:
            ours, theirs = student.layers[pair.student], teacher.layers[pair.teacher]
            _require_widths(self.kind, student, teacher, pair.student, pair.teacher)
            if ours.heads % theirs.heads:
                raise ValueError(
                    f"repeat: {ours.heads} student heads are no multiple of {theirs.heads} teacher heads "
                    f"(student layer {pair.student}, teacher layer {pair.teacher}). Use ridge."
                )

    def start(self, block: Block, draw: torch.Generator) -> nn.Module:
        """Each student head reads one teacher head, channel by channel."""

        def repeated(heads: int) -> Tensor:
            return torch.eye(heads).repeat_interleave(block.student_heads // heads, dim=0)

        return affine_map(_by_heads(block, [repeated(heads) for heads in block.heads]))


@dataclass(frozen=True, kw_only=True)
class Identity(AdapterSettings):
    """The teacher's cache as it is, for a frozen copy of the student.

    Equal shapes alone are no reason for it: the caller compares the fingerprints of the two models.

    Source: ours.
    """

    kind: Literal["identity"] = "identity"
    mixes_heads: ClassVar[bool] = False

    def check(self, student: Geometry, teacher: Geometry, layer_map: LayerMap) -> None:
        """All layers have to be equal, each paired with itself."""

        def shapes(geometry: Geometry) -> list[tuple[object, ...]]:
            return [(x.heads, x.key_width, x.value_width, x.positional, x.window) for x in geometry.layers]

        pairs = [(pair.student, pair.teacher) for pair in layer_map.pairs]
        if shapes(student) != shapes(teacher) or pairs != [(i, i) for i in range(len(student.layers))]:
            raise ValueError(
                "identity: the teacher's layers, heads, widths and windows have to be those of the student, "
                "each layer paired with itself. Use ridge for any other teacher."
            )

    def start(self, block: Block, draw: torch.Generator) -> nn.Module:
        """No matrix."""
        # The result is the input, bit for bit.
        return nn.Identity()


def _by_heads(block: Block, mixing: list[Float[Tensor, "h H"]]) -> Float[Tensor, "o i"]:
    """A weight that mixes heads and keeps channels, over all layers with the layer map's weights."""
    channels = torch.eye(block.student_width)
    parts = [
        weight * torch.kron(heads, channels) for weight, heads in zip(block.weights, mixing, strict=True)
    ]
    return torch.cat(parts, dim=1)


def _require_widths(kind: str, student: Geometry, teacher: Geometry, ours: int, theirs: int) -> None:
    a, b = student.layers[ours], teacher.layers[theirs]
    if (a.key_width, a.value_width) != (b.key_width, b.value_width):
        raise ValueError(
            f"{kind}: student layer {ours} has keys and values of width {a.key_width} and {a.value_width}, "
            f"teacher layer {theirs} of {b.key_width} and {b.value_width}. Use ridge."
        )
