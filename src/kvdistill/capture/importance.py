"""How much the answer attends to each token of the chain of thought."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kvdistill.capture.attention import CapturedAttention


def answer_attention(
    seen: CapturedAttention,
    query: Float[Tensor, "B Q A K"],
    keys: Float[Tensor, "B H T K"],
    visible: Bool[Tensor, "B A T"],
) -> Float[Tensor, "B H T"]:
    """Softmax over the slots of the maximum over the query group, mean over the rows that see a slot.

    Logits are those of the layer itself: its scaling and soft-cap, the rotation that the states carry, and
    ``visible`` (causal, padding, window) as its mask. Rows that see no slot are left out; where none is left,
    the result is 0 everywhere.

    Shapes: ``query`` holds the rows that predict the answer; the result sums to 1 over the slots of each
        sample and head.

    Source: KaVa, https://arxiv.org/abs/2510.02312, appendix D.
    """
    batch, heads, slots, _ = keys.shape
    grouped = query.unflatten(1, (heads, -1)).float()
    logits = torch.einsum("bhgad,bhtd->bhgat", grouped, keys.float()) * seen.scaling
    if seen.softcap is not None:
        logits = seen.softcap * torch.tanh(logits / seen.softcap)
    logits = logits.amax(2).masked_fill(~visible[:, None], -torch.inf)
    sees = visible.any(-1)
    safe = torch.where(sees[:, None, :, None], logits, 0.0)
    weights = safe.softmax(-1) * sees[:, None, :, None]
    return weights.sum(2) / sees.sum(-1).clamp_min(1)[:, None, None]
