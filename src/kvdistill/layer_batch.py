"""Layers of equal shape computed as one batch: on a GPU a launch takes longer than a small layer's work."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kvdistill.kv import LayerKV

LARGEST = 2**23
"""Most numbers in a tensor of a layer: stacking copies them, and large layers keep a device busy."""
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
    return all(layer.rope is None for layer in layers) and alike([_tensors(layer) for layer in layers])


def alike(rows: Sequence[Sequence[Tensor | None]]) -> bool:
    """Whether the tensors of several layers have the same shapes, types and devices, and are small.

    Args:
        rows: The tensors of each of L layers, in one order; None where a layer has none.

    Returns:
        False for a single layer too.
    """
    if len(rows) < 2 or any(tensor is not None and tensor.numel() > LARGEST for tensor in rows[0]):
        return False
    return len({tuple(map(_kind, row)) for row in rows}) == 1


def joined(rows: Sequence[Sequence[Tensor | None]]) -> list[Tensor | None]:
    """The tensors of layers that are ``alike``, along the batch axis.

    Args:
        rows: As in ``alike``.

    Returns:
        A tensor of L B samples for each of a row, the first layer's first.
    """
    found: list[Tensor | None] = []
    for column in zip(*rows, strict=True):
        present = [tensor for tensor in column if tensor is not None]
        found.append(torch.cat(present) if present else None)
    return found


def stack(layers: Sequence[LayerKV]) -> LayerKV:
    """Layers along the batch axis.

    Args:
        layers: L layers that are ``stackable``, each of B samples.

    Returns:
        A layer of L B samples, the first layer's first.
    """
    found = joined([_tensors(layer) for layer in layers])
    return LayerKV(**dict(zip(_FIELDS, found, strict=True)))  # pyright: ignore[reportArgumentType]


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
