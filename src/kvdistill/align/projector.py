"""From the student's heads and widths up to those of a frozen teacher."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kvdistill.align.layer_map import LayerMap
from kvdistill.kv import Geometry, LayerKV, ModelKV, require_unrotated


class Projector(nn.Module):
    """For each pair of a layer map one linear map of the student's keys and one of its values, over heads x
    width together.

    It is trained with the student and dropped afterwards. The target does not depend on it nor on anything
    else that learns, so there is nothing to collapse to and no variance floor is needed. No bias: what is
    constant in the target has to stand in the student's cache, as it has to in self-distillation. A map
    starts at the identity where heads and width are equal on both sides, else at an orthogonal one that keeps
    the mean square of a number; this is drawn from the run's seed and takes nothing from torch's own
    generator, so that a run with a teacher and one without see the same numbers.

    Source: ours; a regressor onto a wider teacher, dropped later: https://arxiv.org/abs/1412.6550, section
    2.2.
    """

    def __init__(self, student: Geometry, teacher: Geometry, layer_map: LayerMap) -> None:
        super().__init__()
        self.pairs = layer_map.pairs
        draw = torch.Generator().manual_seed(torch.initial_seed())
        ends = [(student.layers[pair.student], teacher.layers[pair.teacher]) for pair in self.pairs]
        self.heads = tuple(theirs.heads for _, theirs in ends)
        self.keys = nn.ModuleList(
            _start((s.heads, s.key_width), (t.heads, t.key_width), draw) for s, t in ends
        )
        self.values = nn.ModuleList(
            _start((s.heads, s.value_width), (t.heads, t.value_width), draw) for s, t in ends
        )

    def move(self, student: ModelKV) -> ModelKV:
        """The student's cache in the teacher's geometry, one entry a pair.

        Raises:
            ValueError: if keys are rotated, or the heads of a layer keep unlike tokens, which a map over all
                heads would mix.
        """
        require_unrotated(student, "align/projector")
        return ModelKV(
            tuple(self._move(index, student) for index in range(len(self.pairs))),
            self._teacher_ids(),
            student.source,
        )

    def select(self, target: ModelKV) -> ModelKV:
        """The layers of the teacher's cache that ``move``'s entries are compared with, one a pair."""
        layers = tuple(target.layers[target.layer_ids.index(layer_id)] for layer_id in self._teacher_ids())
        return ModelKV(layers, self._teacher_ids(), target.source)

    def weights(self, layers: Float[Tensor, " L"] | None = None) -> Float[Tensor, " P"]:
        """The weight of each pair: its share of its student layer, times the weight of that layer where such
        are given.
        """
        shares = torch.tensor([pair.weight for pair in self.pairs])
        return shares if layers is None else shares * layers[[pair.student for pair in self.pairs]]

    def _teacher_ids(self) -> tuple[int, ...]:
        return tuple(pair.teacher for pair in self.pairs)

    def _move(self, index: int, student: ModelKV) -> LayerKV:
        layer_id, heads = self.pairs[index].student, self.heads[index]
        layer = student.layers[student.layer_ids.index(layer_id)]
        if any((field != field[:, :1]).any() for field in (layer.mask, layer.positions)):
            raise ValueError(
                f"align/projector: the heads of layer {layer_id} of {student.source} keep unlike tokens, "
                "which a projection over all heads "
                "would mix. Project a cache in which all heads hold the same tokens (compress with "
                "selection 'shared')."
            )
        return LayerKV(
            keys=_through(self.keys[index], layer.keys, layer.mask, heads),  # pyright: ignore[reportArgumentType]
            values=_through(self.values[index], layer.values, layer.mask, heads),  # pyright: ignore[reportArgumentType]
            mask=layer.mask[:, :1].expand(-1, heads, -1),
            positions=layer.positions[:, :1].expand(-1, heads, -1),
        )


def _start(student: tuple[int, int], teacher: tuple[int, int], draw: torch.Generator) -> nn.Linear:
    """A map between two (heads, width)."""
    wide, wanted = math.prod(student), math.prod(teacher)
    linear = nn.Linear(wide, wanted, bias=False, device="meta").to_empty(
        device="cpu"
    )  # nn.Linear would draw from torch's generator
    if student == teacher:
        nn.init.eye_(linear.weight)
    else:
        nn.init.orthogonal_(linear.weight, gain=max(1.0, math.sqrt(wanted / wide)), generator=draw)
    return linear


def _through(
    linear: nn.Linear, states: Float[Tensor, "B H T W"], mask: Bool[Tensor, "B H T"], heads: int
) -> Float[Tensor, "B h T w"]:
    """Padding is read as 0: a not-a-number there would reach the map's gradient."""
    flat = torch.where(mask[..., None], states, 0.0).transpose(1, 2).flatten(2)
    return linear(flat.to(linear.weight.dtype)).unflatten(-1, (heads, -1)).transpose(1, 2)
