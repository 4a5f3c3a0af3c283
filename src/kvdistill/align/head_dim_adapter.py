"""Adapter: affine maps from a teacher's layers, heads and widths to those of the student.

``Ridge`` and ``Learned`` are fitted on calibration text (``calibration.py``); ``GroupMean``, ``Repeat`` and
``Identity`` are fixed.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from kvdistill.align.adapter_base import AdapterSettings, Block
from kvdistill.align.adapter_fitted import Ridge
from kvdistill.align.heads import flatten_heads, shared_mask
from kvdistill.align.layer_map import LayerMap
from kvdistill.align.shared_map import over_layers, shared_block
from kvdistill.kv import Geometry, LayerKV, ModelKV, require_unrotated


class Adapter(nn.Module):
    """Two affine maps per student layer, one for keys and one for values, over heads x width together.

    The input is the concatenation of the teacher layers that the layer map chooses. Where the method has
    ``one_map``, all student layers share the two maps, and the input is the mean of those teacher layers. The
    maps of a method that is not trained need no gradient. All of them are in ``state_dict``.

    Args:
        student: The student's L attention layers.
        teacher: The teacher's attention layers.
        layer_map: The teacher layers of each student layer, one or more.
        method: How the maps start, and whether they are trained; default: ``Ridge``.

    Raises:
        ValueError: if the method cannot adapt this teacher to this student.

    Source: ours; linear maps between the caches of two models.
    """

    def __init__(
        self, student: Geometry, teacher: Geometry, layer_map: LayerMap, method: AdapterSettings | None = None
    ) -> None:
        super().__init__()
        self.method = method or Ridge()
        self.student, self.teacher, self.layer_map = student, teacher, layer_map
        self.method.check(student, teacher, layer_map)
        self.blocks = layer_blocks(student, teacher, layer_map)
        keys, values = zip(*self.blocks, strict=True)
        if self.method.one_map:
            keys, values = (shared_block(keys),), (shared_block(values),)
        # Generator of its own: the run's other random numbers do not depend on the method.
        draw = torch.Generator().manual_seed(torch.initial_seed())
        self.keys = nn.ModuleList(self.method.start(block, draw) for block in keys)
        self.values = nn.ModuleList(self.method.start(block, draw) for block in values)
        self.requires_grad_(self.method.learns)

    def move(self, teacher: ModelKV) -> ModelKV:
        """Map a teacher's cache to the student's geometry.

        Args:
            teacher: All layers of the teacher's cache over the student's N tokens, un-rotated, all heads with
                the same tokens.

        Returns:
            The student's L layers with its heads, widths and layer ids, N slots, in the dtype of the maps.
            Importance is the mean over the heads of each teacher layer, weighted by the layer map, where
            heads are mixed; mask, positions and step ends are those of the teacher's cache.

        Raises:
            ValueError: if keys are rotated, or the heads of a layer hold different tokens, which a map over
                all heads would mix.
        """
        require_unrotated(teacher, "align/head_dim_adapter")
        shared_mask(teacher)
        layers = tuple(self._move(index, teacher) for index in range(len(self.student.layers)))
        return ModelKV(layers, self.student.layer_ids, teacher.source)

    def affine(
        self, states: Literal["keys", "values"], index: int
    ) -> tuple[Float[Tensor, "o i"], Float[Tensor, " o"]] | None:
        """Weight and bias of the map of a student layer, over its concatenated teacher layers.

        Args:
            states: Keys or values.
            index: Student layer, counted from 0.

        Returns:
            Weight and bias, in the autograd graph of the map; None for the identity.
        """
        maps, block = getattr(self, states), self.blocks[index][states == "values"]
        if not self.method.one_map:
            module = maps[index]
            if not isinstance(module, nn.Linear):
                return None
            return module.weight, module.bias
        return over_layers(maps[0].weight, block), maps[0].bias

    def regularizer(
        self,
        moved: ModelKV,
        student: ModelKV,
        scale: Float[Tensor, "L 2"] | None = None,
        all_reduce_sum: Callable[[Tensor], Tensor] | None = None,
    ) -> Float[Tensor, ""]:
        """The term that a trained adapter adds to the loss, so that it cannot shrink its target.

        Args:
            moved: The result of ``move``.
            student: The student's own cache over the same N tokens (teacher mode).
            scale: (L, 2), standard deviations of the student's keys and values, measured at calibration.
            all_reduce_sum: All-reduce sum over the processes of the run; None for a single one.

        Returns:
            A scalar, weighted; 0 for methods that are not trained.
        """
        return self.method.regularizer(moved, student, scale, all_reduce_sum)

    def sources(self, index: int, teacher: ModelKV) -> tuple[LayerKV, ...]:
        """The teacher layers of one student layer.

        Args:
            index: Student layer, counted from 0.
            teacher: All layers of the teacher's cache.

        Returns:
            One layer per pair of the layer map.
        """
        ids = [self.teacher.layer_ids[pair.teacher] for pair in self.layer_map.of(index)]
        return tuple(teacher.layers[teacher.layer_ids.index(layer_id)] for layer_id in ids)

    def _move(self, index: int, teacher: ModelKV) -> LayerKV:
        sources, shape = self.sources(index, teacher), self.student.layers[index]
        first = sources[0]

        def expand(tensor: Tensor) -> Tensor:
            # (B, H, N) of the teacher -> (B, h, N): all heads are equal.
            return tensor[:, :1].expand(-1, shape.heads, -1)

        step_end = None
        if first.step_end is not None:
            step_end = expand(first.step_end)
        return LayerKV(
            keys=_apply(self.affine("keys", index), [(x.keys, x.mask) for x in sources], shape.heads),
            values=_apply(self.affine("values", index), [(x.values, x.mask) for x in sources], shape.heads),
            mask=expand(first.mask),
            positions=expand(first.positions),
            importance=self._importance(index, sources),
            step_end=step_end,
        )

    def _importance(self, index: int, sources: tuple[LayerKV, ...]) -> Float[Tensor, "B h N"] | None:
        if not self.method.mixes_heads:
            return sources[0].importance
        parts = []
        for pair, layer in zip(self.layer_map.of(index), sources, strict=True):
            if layer.importance is None:
                return None
            # The heads are mixed, so their importance is averaged: (B, H, N) -> (B, 1, N).
            parts.append(pair.weight * layer.importance.mean(1, keepdim=True))
        return torch.stack(parts).sum(0).expand(-1, self.student.layers[index].heads, -1)


def layer_blocks(student: Geometry, teacher: Geometry, layer_map: LayerMap) -> list[tuple[Block, Block]]:
    """Heads and widths that the maps of each student layer read and write.

    Args:
        student: The student's L attention layers.
        teacher: The teacher's attention layers.
        layer_map: The teacher layers of each student layer.

    Returns:
        Per student layer the block of keys and the block of values.

    Raises:
        ValueError: if a student layer has no teacher layer.
    """
    blocks = []
    for index, ours in enumerate(student.layers):
        pairs = layer_map.of(index)
        if not pairs:
            raise ValueError(f"the layer map has no teacher layer for student layer {index}: add a pair")
        theirs = [teacher.layers[pair.teacher] for pair in pairs]
        heads, weights = tuple(x.heads for x in theirs), tuple(pair.weight for pair in pairs)
        keys = Block(heads, tuple(x.key_width for x in theirs), weights, ours.heads, ours.key_width)
        values = Block(heads, tuple(x.value_width for x in theirs), weights, ours.heads, ours.value_width)
        blocks.append((keys, values))
    return blocks


def _apply(
    affine: tuple[Tensor, Tensor] | None,
    sources: list[tuple[Float[Tensor, "B H N W"], Bool[Tensor, "B H N"]]],
    heads: int,
) -> Float[Tensor, "B h N w"]:
    """One map over the concatenated layers: (B, N, sum of H W) -> (B, N, h w) -> (B, h, N, w)."""
    flat = torch.cat([flatten_heads(states, mask) for states, mask in sources], dim=-1)
    # The target keeps the precision of the maps under autocast as well.
    with torch.autocast(flat.device.type, enabled=False):
        if affine is not None:
            weight, bias = affine
            flat = functional.linear(flat.to(weight.dtype), weight, bias)
    return flat.unflatten(-1, (heads, -1)).transpose(1, 2)
