"""Layers of equal shape computed as one batch: on a GPU a launch takes longer than a small layer's work."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kvdistill.kv import LayerKV

LARGEST = 2**23
"""Most numbers in a layer's keys or values: stacking copies them, and large layers keep a device busy."""
_FIELDS = ("keys", "values", "mask", "positions", "importance", "step_end")


def map_layers(layers: Sequence[LayerKV], function: Callable[[LayerKV], LayerKV]) -> tuple[LayerKV, ...]:
    """Apply a function to every layer, to all at once where they are alike.

    Args:
        layers: L layers, of any shapes.
        function: Treats samples (the first axis) alike and apart from each other.

    Returns:
        The results, in order.
    """
    if not stackable(layers):
        return tuple(function(layer) for layer in layers)
    return unstack(function(stack(layers)), len(layers))


def stackable(layers: Sequence[LayerKV]) -> bool:
    """Whether layers have the same fields, shapes, types and device, no rotation, and are small.

    Args:
        layers: L layers.

    Returns:
        False for a single layer too.
    """
    if len(layers) < 2 or any(layer.rope is not None for layer in layers):
        return False
    if max(layers[0].keys.numel(), layers[0].values.numel()) > LARGEST:
        return False
    return len({tuple(map(_kind, _tensors(layer))) for layer in layers}) == 1


def stack(layers: Sequence[LayerKV]) -> LayerKV:
    """Layers along the batch axis.

    Args:
        layers: L layers that are ``stackable``, each of B samples.

    Returns:
        A layer of L B samples, the first layer's first.
    """
    columns = zip(*map(_tensors, layers), strict=True)
    joined = [None if column[0] is None else torch.cat(column) for column in columns]
    return LayerKV(**dict(zip(_FIELDS, joined, strict=True)))  # pyright: ignore[reportArgumentType]


def unstack(layer: LayerKV, number: int) -> tuple[LayerKV, ...]:
    """The layers that were stacked.

    Args:
        layer: A layer of L B samples.
        number: L.

    Returns:
        L layers of B samples each: views.
    """
    columns = [[None] * number if tensor is None else tensor.chunk(number) for tensor in _tensors(layer)]
    return tuple(LayerKV(**dict(zip(_FIELDS, row, strict=True))) for row in zip(*columns, strict=True))


def _tensors(layer: LayerKV) -> tuple[Tensor | None, ...]:
    return tuple(getattr(layer, name) for name in _FIELDS)


def _kind(tensor: Tensor | None) -> tuple[torch.Size, torch.dtype, torch.device] | None:
    if tensor is None:
        return None
    return tensor.shape, tensor.dtype, tensor.device
