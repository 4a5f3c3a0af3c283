"""Importance: attention of the answer to each token of the chain of thought."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kvdistill.capture.call import CapturedAttention


def answer_attention(
    seen: CapturedAttention,
    query: Float[Tensor, "B Q A K"],
    keys: Float[Tensor, "B H T K"],
    visible: Bool[Tensor, "B A T"],
) -> Float[Tensor, "B H T"]:
    """Importance: softmax over slots of the maximum logit over each query group, averaged over answer rows.

    Logits are those of the layer itself: its scaling and soft-cap, the rotation that queries and keys carry,
    and ``visible`` as its mask. Rows that see no slot are left out of the mean.

    Args:
        seen: The captured layer; only its scaling and soft-cap are used.
        query: Queries of the rows that predict the answer, (B, Q, A, K), rotated as in the layer.
        keys: Keys of the slots, (B, H, T, K), rotated as in the layer.
        visible: True where a row sees a slot (causal, padding, window), (B, A, T).

    Returns:
        Importance, (B, H, T), float32. It sums to 1 over the slots of each sample and head; 0 everywhere
        where no row sees a slot.

    Source: KaVa, https://arxiv.org/abs/2510.02312, appendix D.
    """
    batch, heads, slots, _ = keys.shape
    # Grouped-query attention: (B, Q, A, K) -> (B, H, G, A, K), the G query heads that share one key head.
    grouped = query.unflatten(1, (heads, -1)).float()
    logits = torch.einsum("bhgad,bhtd->bhgat", grouped, keys.float()) * seen.scaling
    if seen.softcap is not None:
        logits = seen.softcap * torch.tanh(logits / seen.softcap)
    # Maximum over the query group before the softmax, as in the paper: (B, H, A, T).
    logits = logits.amax(2).masked_fill(~visible[:, None], -torch.inf)
    sees = visible.any(-1)
    # A row without visible slots is all -inf, whose softmax is NaN: it gets logits 0 and weight 0.
    safe = torch.where(sees[:, None, :, None], logits, 0.0)
    weights = safe.softmax(-1) * sees[:, None, :, None]
    return weights.sum(2) / sees.sum(-1).clamp_min(1)[:, None, None]
