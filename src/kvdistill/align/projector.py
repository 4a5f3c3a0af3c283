"""Projector: linear maps from the student's heads and widths to those of a frozen teacher."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kvdistill.align.layer_map import LayerMap
from kvdistill.kv import Geometry, LayerKV, ModelKV, require_unrotated


class Projector(nn.Module):
    """Two linear maps per layer pair, one for keys and one for values, over heads x width together.

    It is fitted before training and fixed (``fix``), or trained with the student, and dropped afterwards. The
    target depends on no trained parameter, so it cannot collapse and no variance floor is needed. A trained
    map has no bias: a constant in the target has to be in the student's cache, as in self-distillation. A map
    is initialized to the identity where heads and width
    are equal on both sides, else to an orthogonal matrix that keeps the mean square of a number. The matrix
    is drawn from the run's seed with a generator of its own: a run with a teacher and one without get the
    same numbers from torch's global generator.

    Args:
        student: The student's attention layers.
        teacher: The teacher's attention layers.
        layer_map: The P pairs of student and teacher layers.

    Source: ours; a regressor onto a wider teacher, dropped later: https://arxiv.org/abs/1412.6550, section
    2.2.
    """

    def __init__(self, student: Geometry, teacher: Geometry, layer_map: LayerMap) -> None:
        super().__init__()
        self.pairs = layer_map.pairs
        # Pairs count attention layers, caches hold ids: they differ where some layers have no attention.
        self.student_ids = tuple(student.layer_ids[pair.student] for pair in self.pairs)
        self.teacher_ids = tuple(teacher.layer_ids[pair.teacher] for pair in self.pairs)
        # Keyed by pair, not by student layer: a student layer between two teacher layers has two maps.
        draw = torch.Generator().manual_seed(torch.initial_seed())
        ends = [(student.layers[pair.student], teacher.layers[pair.teacher]) for pair in self.pairs]
        self.heads = tuple(theirs.heads for _, theirs in ends)
        self.keys = nn.ModuleList(
            _start((s.heads, s.key_width), (t.heads, t.key_width), draw) for s, t in ends
        )
        self.values = nn.ModuleList(
            _start((s.heads, s.value_width), (t.heads, t.value_width), draw) for s, t in ends
        )

    def fix(self) -> None:
        """Train no map, and give each a bias of 0, to be fitted."""
        for linear in (*self.keys, *self.values):
            assert isinstance(linear, nn.Linear)
            linear.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features))
        self.requires_grad_(False)

    def move(self, student: ModelKV) -> ModelKV:
        """Project the student's cache to the teacher's geometry.

        Args:
            student: The latent cache of M slots, un-rotated, all heads of a layer with the same tokens.

        Returns:
            One layer per pair, P in all, with the teacher's heads and widths and the student's M slots; the
            layer ids are the teacher's. Importance and step ends are dropped.

        Raises:
            ValueError: if keys are rotated, or the heads of a layer keep different tokens, which a map over
                all heads would mix.
        """
        require_unrotated(student, "align/projector")
        return ModelKV(
            tuple(self._move(index, student) for index in range(len(self.pairs))),
            self.teacher_ids,
            student.source,
        )

    def select(self, target: ModelKV) -> ModelKV:
        """The teacher layers that the entries of ``move`` are compared with.

        Args:
            target: The teacher's cache, all layers.

        Returns:
            One layer of ``target`` per pair, P in all, in the order of ``move``.
        """
        # A teacher layer in several pairs is repeated.
        layers = tuple(target.layers[target.layer_ids.index(layer_id)] for layer_id in self.teacher_ids)
        return ModelKV(layers, self.teacher_ids, target.source)

    def weights(self, layers: Float[Tensor, " L"] | None = None) -> Float[Tensor, " P"]:
        """The weight of each pair: its share of its student layer, times the weight of that layer.

        Args:
            layers: (L,), the weight of each student layer; None counts as 1 for all.

        Returns:
            (P,), in the order of ``move``.
        """
        shares = torch.tensor([pair.weight for pair in self.pairs])
        if layers is None:
            return shares
        # (L,) -> (P,): a student layer between two teacher layers is in two pairs.
        return shares * layers[[pair.student for pair in self.pairs]]

    def _move(self, index: int, student: ModelKV) -> LayerKV:
        layer_id, heads = self.student_ids[index], self.heads[index]
        layer = student.layers[student.layer_ids.index(layer_id)]
        # Every head must equal the first one, whose mask and positions are used for all of them below.
        if any((field != field[:, :1]).any() for field in (layer.mask, layer.positions)):
            raise ValueError(
                f"align/projector: the heads of layer {layer_id} of {student.source} keep unlike tokens, "
                "which a projection over all heads "
                "would mix. Project a cache in which all heads hold the same tokens (compress with "
                "selection 'shared')."
            )
        return LayerKV(
            keys=_through(self.keys[index], layer.keys, layer.mask, heads),  # pyright: ignore
            values=_through(self.values[index], layer.values, layer.mask, heads),  # pyright: ignore
            # (B, 1, M) -> (B, h, M): as many heads as the teacher has.
            mask=layer.mask[:, :1].expand(-1, heads, -1),
            positions=layer.positions[:, :1].expand(-1, heads, -1),
        )


def _start(student: tuple[int, int], teacher: tuple[int, int], draw: torch.Generator) -> nn.Linear:
    """A linear map between two (heads, width), initialized as the class describes."""
    wide, wanted = math.prod(student), math.prod(teacher)
    # Created on the meta device: nn.Linear's own initialization would draw from torch's global generator.
    linear = nn.Linear(wide, wanted, bias=False, device="meta").to_empty(device="cpu")
    if student == teacher:
        nn.init.eye_(linear.weight)
    else:
        # An orthogonal map to more dimensions keeps the norm; the gain restores the mean square.
        nn.init.orthogonal_(linear.weight, gain=max(1.0, math.sqrt(wanted / wide)), generator=draw)
    return linear


def _through(
    linear: nn.Linear, states: Float[Tensor, "B H T W"], mask: Bool[Tensor, "B H T"], heads: int
) -> Float[Tensor, "B h T w"]:
    """Apply one map over heads x width. Padding is read as 0: NaN there would reach the map's gradient."""
    # (B, H, T, W) -> (B, T, H W) -> (B, T, h w) -> (B, h, T, w)
    flat = torch.where(mask[..., None], states, 0.0).transpose(1, 2).flatten(2)
    return linear(flat.to(linear.weight.dtype)).unflatten(-1, (heads, -1)).transpose(1, 2)
