"""Caches of a teacher and a student for tests of the alignment: random, or one planted in the other."""

from collections.abc import Callable

import torch
from torch import Tensor

from kvdistill.kv import Geometry, LayerGeometry, LayerKV, ModelKV


def geometry(num_layers: int, heads: int, key_width: int, value_width: int) -> Geometry:
    """Layers of one shape, without rotation."""
    return Geometry(
        (LayerGeometry(heads, key_width, value_width, rope=None, positional="none"),) * num_layers
    )


def layer_kv(keys: Tensor, values: Tensor, mask: Tensor | None = None) -> LayerKV:
    """A layer with importance and step ends; ``mask`` (B, T) for all heads."""
    batch, heads, slots = keys.shape[:3]
    if mask is None:
        mask = torch.ones(batch, slots, dtype=torch.bool)
    wide = mask[:, None].expand(batch, heads, slots)
    importance = torch.rand(batch, heads, slots) * wide
    return LayerKV(
        keys,
        values,
        wide,
        torch.arange(slots).expand(batch, heads, slots),
        importance=importance / importance.sum(-1, keepdim=True),
        step_end=(torch.arange(slots) % 2 == 1).expand(batch, heads, slots),
    )


def cache(shape: Geometry, batch: int = 2, slots: int = 5, mask: Tensor | None = None) -> ModelKV:
    """Random keys and values of this geometry, with a mean that is not 0."""
    layers = []
    for layer in shape.layers:
        keys, values = (
            torch.randn(batch, layer.heads, slots, width) * 2 + 1
            for width in (layer.key_width, layer.value_width)
        )
        layers.append(layer_kv(keys, values, mask))
    return ModelKV(tuple(layers), shape.layer_ids, "a cache")


def mapped(source: ModelKV, shape: Geometry, function: Callable[[int, str, ModelKV], Tensor]) -> ModelKV:
    """A cache of geometry ``shape``: keys and values are what the function gives, (B, T, h w)."""
    layers = []
    for index, layer in enumerate(shape.layers):
        keys, values = (
            function(index, name, source).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
            for name in ("keys", "values")
        )
        layers.append(layer_kv(keys, values, source.layers[0].mask[:, 0]))
    return ModelKV(tuple(layers), shape.layer_ids, "a student")


def flat(kv: ModelKV, layers: tuple[int, ...], name: str) -> Tensor:
    """The heads of some layers side by side, (B, T, sum of H W): written with loops."""
    return torch.cat(
        [
            getattr(kv.layers[index], name)[:, head]
            for index in layers
            for head in range(kv.layers[index].keys.shape[1])
        ],
        dim=-1,
    )
