"""From what the attention layers saw to caches without rotation: the one door through which keys and values
enter the road.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.capture.attention import AttentionCall, CapturedAttention, within_window
from kvdistill.capture.importance import answer_attention
from kvdistill.kv import Geometry, LayerGeometry, LayerKV, ModelKV
from kvdistill.ops import rotate


@dataclass(frozen=True, slots=True)
class Columns:
    """Neighbouring columns of a call's sequence that hold one text."""

    start: int
    stop: int
    mask: Bool[Tensor, "B T"]
    positions: Int[Tensor, "B T"]
    """Position ids that the model was given there."""
    step_end: Bool[Tensor, "B T"] | None = None


@dataclass(frozen=True, slots=True)
class AnswerRows:
    """The rows of a call's sequence that predict the answer."""

    columns: Int[Tensor, "B A"]
    mask: Bool[Tensor, "B A"]
    positions: Int[Tensor, "B A"]


def unrotated(
    keys: Float[Tensor, "B H T K"], positions: Int[Tensor, "B T"], layer: LayerGeometry
) -> Float[Tensor, "B H T K"]:
    """Keys as they were before the layer's rotation."""
    return keys if layer.rope is None else rotate(keys, positions[:, None], layer.rope, inverse=True)


def text_order(mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Index of each valid token among the valid tokens of its sample."""
    return (mask.long().cumsum(-1) - 1).clamp_min(0)


def extract(
    call: AttentionCall, geometry: Geometry, text: Columns, rows: AnswerRows | None, source: str
) -> ModelKV:
    """The cache over ``text``, un-rotated and outside the autograd graph, with the answer's attention where
    rows are given.

    Where no row sees any token of the text (a sliding window shorter than the answer, say) importance is even
    over it.
    """
    layers = []
    for layer_id, seen in sorted(call.seen.items()):
        keys, values = (
            seen.keys[:, :, text.start : text.stop].detach(),
            seen.values[:, :, text.start : text.stop].detach(),
        )
        wide = keys.shape[:3]
        layers.append(
            LayerKV(
                keys=unrotated(keys, text.positions, geometry.layer(layer_id)),
                values=values,
                mask=text.mask[:, None].expand(wide),
                positions=text_order(text.mask)[:, None].expand(wide),
                importance=None if rows is None else _importance(seen, keys, text, rows),
                step_end=None if text.step_end is None else text.step_end[:, None].expand(wide),
            )
        )
    return ModelKV(tuple(layers), tuple(sorted(call.seen)), source)


@torch.no_grad()
def _importance(
    seen: CapturedAttention, keys: Tensor, text: Columns, rows: AnswerRows
) -> Float[Tensor, "B H T"]:
    query = gather_rows(seen.query, rows.columns)
    visible = (
        rows.mask[:, :, None]
        & text.mask[:, None, :]
        & (rows.positions[:, :, None] >= text.positions[:, None, :])
    )
    visible = within_window(visible[:, None], rows.positions, text.positions, seen.window)[:, 0]
    weights = answer_attention(seen, query, keys, visible)
    even = text.mask.float() / text.mask.sum(-1, keepdim=True).clamp_min(1)
    unseen = ~visible.any((-1, -2))
    return torch.where(unseen[:, None, None], even[:, None].expand_as(weights), weights)


def gather_rows(states: Float[Tensor, "B Q S K"], columns: Int[Tensor, "B A"]) -> Float[Tensor, "B Q A K"]:
    """The rows of each sample that ``columns`` names."""
    index = columns[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
    return states.gather(2, index)
