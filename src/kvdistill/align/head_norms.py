"""Head map of an adapter: how strongly each teacher head enters each student head."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.align.head_dim_adapter import Adapter


def head_norms(adapter: Adapter, states: Literal["keys", "values"]) -> Float[Tensor, "rows columns"]:
    """Frobenius norms of the blocks of an adapter's weights, per student head and teacher head.

    Args:
        adapter: A fitted adapter.
        states: Keys or values.

    Returns:
        A row per student layer and head, a column per teacher layer and head, both in the order of layers;
        0 where the layer map does not pair the two layers.

    Source: ours.
    """
    rows = [layer.heads for layer in adapter.student.layers]
    columns = [layer.heads for layer in adapter.teacher.layers]
    found = torch.zeros(sum(rows), sum(columns))
    for index, pair in enumerate(adapter.blocks):
        block = pair[states == "values"]
        # (h w, sum of H W) -> (h, w, sum of H W)
        weight = _weight(adapter, states, index).unflatten(0, (block.student_heads, block.student_width))
        sizes = [heads * width for heads, width in zip(block.heads, block.widths, strict=True)]
        top = sum(rows[:index])
        for chosen, part in zip(adapter.layer_map.of(index), weight.split(sizes, dim=-1), strict=True):
            left, heads = sum(columns[: chosen.teacher]), columns[chosen.teacher]
            # (h, w, H W) -> (h, w, H, W) -> (h, H)
            norms = part.unflatten(-1, (heads, -1)).square().sum((1, 3)).sqrt()
            found[top : top + rows[index], left : left + heads] = norms
    return found


def _weight(adapter: Adapter, states: Literal["keys", "values"], index: int) -> Float[Tensor, "o i"]:
    """The weight of a map; the identity where it has none."""
    found = adapter.affine(states, index)
    if found is None:
        return torch.eye(adapter.blocks[index][states == "values"].inputs)
    return found[0].detach().float().cpu()
