"""Time alignment: a teacher's cache over its own tokens becomes one over the student's tokens."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from kvdistill.kv import LayerKV, ModelKV, require_unrotated
from kvdistill.ops import to_float32
from kvdistill.text import TokenAlignment


def align_time(kv: ModelKV, alignment: TokenAlignment) -> ModelKV:
    """Move a cache from the teacher's tokens to the student's tokens of the same text.

    Keys and values are weighted by ``average``, importance by ``carry``. A student token that no teacher
    token covers keeps its slot, with zeros.

    Args:
        kv: The teacher's cache over its S tokens of the chain of thought, un-rotated; ``T`` is S.
        alignment: Of the same batch.

    Returns:
        Keys (B, H, N, K), values (B, H, N, V) and importance (B, H, N) in the dtypes of ``kv``; mask and step
        ends are the student's, positions the index of the student token in its chain of thought.

    Raises:
        ValueError: if keys are rotated.

    Source: ours.
    """
    require_unrotated(kv, "time alignment")
    return kv.map(tuple(_align_layer(layer, alignment) for layer in kv.layers))


def _align_layer(layer: LayerKV, alignment: TokenAlignment) -> LayerKV:
    heads = layer.keys.shape[1]
    batch, tokens = alignment.mask.shape
    wide = (batch, heads, tokens)
    # Every head has the student's tokens; the first valid one has position 0 on either side of padding.
    positions = (alignment.mask.cumsum(-1) - 1).clamp_min(0)
    importance = layer.importance
    if importance is not None:
        importance = weighted_gather(importance[..., None], alignment.index, alignment.carry)[..., 0]
    return layer.replace(
        keys=weighted_gather(layer.keys, alignment.index, alignment.average),
        values=weighted_gather(layer.values, alignment.index, alignment.average),
        mask=alignment.mask[:, None].expand(wide),
        positions=positions[:, None].expand(wide),
        importance=importance,
        step_end=alignment.step_end[:, None].expand(wide),
    )


def weighted_gather(
    states: Float[Tensor, "B H T W"], index: Int[Tensor, "B N k"], weights: Float[Tensor, "B N k"]
) -> Float[Tensor, "B H N W"]:
    """Sum of k weighted slots for each new slot, accumulated in at least float32.

    Args:
        states: One vector per slot.
        index: Slots to add, each below T.
        weights: Their weights; slots with weight 0 are not read, so that padding may hold anything.

    Returns:
        ``sum_k weights * states[index]`` in the dtype of ``states``.
    """
    batch, heads, slots, width = states.shape
    if slots == 0:
        # A teacher without tokens: one slot that has weight 0 everywhere.
        states = F.pad(states, (0, 0, 0, 1))
    wide = (batch, heads, index.shape[1], width)
    total = to_float32(states.new_zeros(wide))
    # One gather per overlap: deterministic, and never more than one slot per token in memory.
    for number in range(index.shape[-1]):
        place = index[:, None, :, number, None].expand(wide)  # (B, H, N, W)
        weight = weights[:, None, :, number, None].to(total.dtype)  # (B, 1, N, 1)
        found = states.gather(2, place).to(total.dtype)
        total = total + torch.where(weight > 0, weight * found, 0.0)
    return total.to(states.dtype)
