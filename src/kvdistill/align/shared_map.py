"""One map for all student layers: it reads the mean of each layer's teacher layers, by the layer map."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.align.adapter_base import Block
from kvdistill.align.moments import Moments


def shared_block(blocks: Sequence[Block]) -> Block:
    """Heads and widths of the one map.

    Args:
        blocks: What the map of each student layer would read and write.

    Returns:
        The block of a single teacher layer.

    Raises:
        ValueError: if the student's layers or the teacher's differ in heads or width.
    """
    outputs = {(block.student_heads, block.student_width) for block in blocks}
    inputs = {shape for block in blocks for shape in zip(block.heads, block.widths, strict=True)}
    for whose, shapes in (("student's", outputs), ("teacher's", inputs)):
        if len(shapes) > 1:
            listed = ", ".join(f"{heads} x {width}" for heads, width in sorted(shapes))
            raise ValueError(
                f"shared: the {whose} layers differ in heads x width ({listed}), so one map cannot serve all "
                "layers. Set adapter.shared to false, or choose layers of one shape."
            )
    ((heads, width),) = inputs
    return Block((heads,), (width,), (1.0,), blocks[0].student_heads, blocks[0].student_width)


def over_layers(weight: Float[Tensor, "o i"], block: Block) -> Float[Tensor, "o k"]:
    """The weight of the one map for the concatenated teacher layers of a student layer.

    Args:
        weight: The map's weight, of a single teacher layer.
        block: The student layer's; its ``weights`` are those of the mean.

    Returns:
        ``W x`` of the mean as a map of ``k = (number of layers) i`` inputs.
    """
    return torch.cat([share * weight for share in block.weights], dim=-1)


def pooled(moments: Sequence[Moments], blocks: Sequence[Block]) -> Moments:
    """The moments that the one map is fitted on: the tokens of all student layers together.

    Args:
        moments: Moments of each student layer, of its concatenated teacher layers.
        blocks: Heads and widths of each student layer.

    Returns:
        Moments of the mean of the teacher layers, summed over the student layers.
    """
    inputs = shared_block(blocks).inputs
    first = moments[0]
    found = Moments(inputs, first.y.shape[0], first.y.device)
    for each, block in zip(moments, blocks, strict=True):
        # (i, k): the mean of the layers as a matrix, so that the products need not be gathered again.
        mean = over_layers(torch.eye(inputs).to(each.x), block)
        found.count += each.count
        found.x += mean @ each.x
        found.y += each.y
        found.xx += mean @ each.xx @ mean.T
        found.xy += mean @ each.xy
        found.yy += each.yy
    return found
