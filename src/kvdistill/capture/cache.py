"""Captured keys and values as a cache of transformers, for generation."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from kvdistill.capture.attention import Prefix, body_of

CacheSource = Literal["captured", "prefill"]
"""Where a generation cache comes from: captured keys and values as they are, or a prefill by the model
itself, for models that
cache something else than what attention sees (multi-head latent attention, keys before they are repeated)."""


def captured_cache(model: PreTrainedModel, prefix: Prefix) -> DynamicCache:
    """The keys and values of ``prefix``, as attention sees them, as a cache of transformers."""
    cache = DynamicCache(config=model.config)
    for layer_id, (keys, values) in sorted(prefix.items()):
        cache.update(torch.cat(keys, 2), torch.cat(values, 2), layer_id)
    return cache


def prefill_cache(
    model: PreTrainedModel,
    inputs: Float[Tensor, "B P D"],
    mask: Bool[Tensor, "B P"],
    positions: Int[Tensor, "B P"],
) -> Any:
    """The cache that the model fills by itself when it reads ``inputs``, in whatever form it keeps it.

    Args:
        model: A causal language model.
        inputs: Input embeddings.
        mask: True where a token stands; padding is on the left.
        positions: Position ids.

    Returns:
        The model's own cache over ``P`` tokens.
    """
    output = body_of(model)(
        inputs_embeds=inputs, attention_mask=mask.long(), position_ids=positions, use_cache=True
    )
    return output.past_key_values
