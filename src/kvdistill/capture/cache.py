"""Conversion between captured keys and values and transformers' DynamicCache."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from kvdistill.capture import rotation
from kvdistill.capture.attention import attention_backend, body_of, require_mask_support
from kvdistill.capture.call import AttentionCall, Prefix
from kvdistill.capture.extract import text_order, unrotated
from kvdistill.capture.importance import answer_attention
from kvdistill.capture.pieces import Piece
from kvdistill.capture.sequence import Sequence, attention_call
from kvdistill.kv import Geometry, LayerKV, ModelKV, require_unrotated
from kvdistill.ops import rotate

CacheSource = Literal["captured", "prefill"]
"""Where a generation cache comes from: captured keys and values, or a prefill by the model itself, for models
whose cache is not what attention reads (multi-head latent attention, keys before they are repeated).
"""


def captured_cache(model: PreTrainedModel, prefix: Prefix) -> DynamicCache:
    """Build a transformers cache from captured keys and values.

    Args:
        model: The model that they were captured from.
        prefix: Layer id -> pieces of keys (B, H, P, K) and values (B, H, P, V), rotated, joined along P.

    Returns:
        A cache of all P tokens, in the autograd graph of the pieces.
    """
    cache = DynamicCache(config=model.config)
    for layer_id, (keys, values) in sorted(prefix.items()):
        # (B, H, P, K): pieces of several calls, in the order of the text.
        cache.update(torch.cat(keys, 2), torch.cat(values, 2), layer_id)
    return cache


def prefill_cache(
    model: PreTrainedModel,
    inputs: Float[Tensor, "B P D"],
    mask: Bool[Tensor, "B P"],
    positions: Int[Tensor, "B P"],
) -> Any:
    """Prefill: the cache that the model itself builds over ``inputs``, in the model's own format.

    Args:
        model: A causal language model.
        inputs: Input embeddings, (B, P, D).
        mask: True where there is a token, (B, P); padding is on the left.
        positions: Position ids, (B, P).

    Returns:
        The model's own cache over ``P`` tokens.
    """
    # The body alone: a cache needs no logits.
    output = body_of(model)(
        inputs_embeds=inputs, attention_mask=mask.long(), position_ids=positions, use_cache=True
    )
    return output.past_key_values


def causal_lm(model: PreTrainedModel) -> PreTrainedModel:
    """The causal language model: a student's backbone, any other model itself.

    Args:
        model: A latent student or a causal language model.

    Returns:
        A model with a head that generates tokens.
    """
    # A student's base model is its backbone, with a head; that of other models is a body without one.
    inner: PreTrainedModel = model.base_model  # pyright: ignore[reportAssignmentType]
    if inner.can_generate():
        return inner
    return model


@torch.no_grad()
def kv_from_cache(
    cache: DynamicCache,
    model: PreTrainedModel,
    attention_mask: Int[Tensor, "B T"] | Bool[Tensor, "B T"] | None = None,
    last_ids: Int[Tensor, "B n"] | None = None,
) -> ModelKV:
    """Convert a transformers cache into the input of compressors: un-rotated keys, with token positions.

    Args:
        cache: ``past_key_values`` of ``model`` over a batch of B texts, T tokens; not changed.
        model: The causal language model that filled it, or a student with that backbone.
        attention_mask: 1 where the cache holds a token, (B, T); all ones where left out.
        last_ids: Token ids of the last ``n`` tokens of the cache, (B, n). They are read again, and their
            attention to each token becomes its ``importance``, which R-KV and others score by; None leaves
            it out.

    Returns:
        One entry per layer: keys (B, H, T, K), values (B, H, T, V), and the model's position ids as
        ``positions``.

    Raises:
        ValueError: if the model caches something else than what its attention reads, or drops tokens.
    """
    model = causal_lm(model)
    first = None
    if cache.layers:
        first, _ = _held(cache.layers[0])  # (B, H, T, K)
    if first is None:
        raise ValueError(
            "The cache is empty, or its first layer holds no keys: give the past_key_values that a model "
            "with attention in every layer returned with use_cache=True."
        )
    if attention_mask is None:
        attention_mask = torch.ones(first.shape[0], first.shape[2], dtype=torch.bool, device=first.device)
    mask = attention_mask.bool()
    positions = text_order(mask)
    # The length matters where frequencies depend on it (dynamic scaling, longrope).
    geometry = _full_attention(model, int(positions.max()) + 1)
    prefix = {i: _cached(cache, i, geometry, model) for i in geometry.layer_ids}
    importance: dict[int, Tensor] = {}
    if last_ids is not None:
        importance = _importance(model, prefix, mask, last_ids)
    layers = []
    for layer_id, (keys, values) in prefix.items():
        # All heads of a cache hold the same tokens: mask and positions (B, T) are expanded to (B, H, T).
        wide = keys.shape[:3]
        layers.append(
            LayerKV(
                keys=unrotated(keys, positions, geometry.layer(layer_id).rope),
                values=values,
                mask=mask[:, None].expand(wide),
                positions=positions[:, None].expand(wide),
                importance=importance.get(layer_id),
            )
        )
    return ModelKV(tuple(layers), geometry.layer_ids, f"{type(model).__name__}, a cache of {mask.shape[1]}")


@torch.no_grad()
def kv_to_cache(kv: ModelKV, model: PreTrainedModel, start: int | Int[Tensor, " B"] = 0) -> DynamicCache:
    """Convert keys and values into a transformers cache that ``model`` can continue from.

    A compressed cache has fewer slots than its text had tokens, so calls that continue from it need
    ``position_ids`` that count from the length of the text, and, where a slot is empty,
    ``kv.layers[0].mask[:, 0]`` at the beginning of their ``attention_mask``.

    Args:
        kv: Un-rotated cache of all layers of ``model``, T slots; heads may have kept different tokens.
        model: The causal language model that the cache came from, or a student with that backbone.
        start: Position id of token 0 of ``kv``, one number or (B), where it holds the later part of a text.

    Returns:
        Keys (B, H, T, K) rotated to their positions, and values (B, H, T, V), for every layer.

    Raises:
        ValueError: if keys are rotated, layers are missing, or the empty slots differ between heads or
            layers, since a transformers cache has one mask for all.
    """
    require_unrotated(kv, "kv_to_cache")
    model = causal_lm(model)
    # (B, 1, 1) or (1, 1, 1), to be added to positions (B, H, T).
    offset = torch.as_tensor(start, device=kv.layers[0].positions.device).reshape(-1, 1, 1)
    length = max(int((layer.positions + offset).max()) for layer in kv.layers) + 1
    geometry = _full_attention(model, length)
    if kv.layer_ids != geometry.layer_ids:
        raise ValueError(
            f"{kv.source} holds layers {kv.layer_ids}, but {type(model).__name__} has {geometry.layer_ids}: "
            "a cache needs all of them."
        )
    if any(
        not torch.equal(layer.mask, kv.layers[0].mask[:, :1].expand_as(layer.mask)) for layer in kv.layers
    ):
        raise ValueError(
            f"Heads or layers of {kv.source} have unlike empty slots, and a cache of transformers has one "
            "mask for all: choose fewer slots than the shortest text has tokens."
        )
    cache = DynamicCache(config=model.config)
    for layer_id, layer in zip(kv.layer_ids, kv.layers, strict=True):
        # Heads that kept different tokens differ in their positions, (B, H, T).
        keys, rope = layer.keys, geometry.layer(layer_id).rope
        if rope is not None:
            keys = rotate(keys, layer.positions + offset, rope)
        cache.update(keys, layer.values, layer_id)
    return cache


def _full_attention(model: PreTrainedModel, length: int) -> Geometry:
    """The model's layers, with the rotations for a text of ``length`` tokens; refuses windows and gaps."""
    measured = rotation.measure(model)
    name = type(model).__name__
    if any(layer.shape.window is not None for layer in measured):
        raise ValueError(
            f"{name} attends in sliding windows, where a cache drops tokens and counts columns: capture its "
            "keys and values with capture_kv instead."
        )
    geometry = rotation.geometry_at(model, measured, length)
    if geometry.layer_ids != tuple(range(model.config.get_text_config().num_hidden_layers)):
        raise ValueError(f"{name} has layers without attention, which a cache of keys and values leaves out.")
    return geometry


def _cached(
    cache: DynamicCache, layer_id: int, geometry: Geometry, model: PreTrainedModel
) -> tuple[Float[Tensor, "B H T K"], Float[Tensor, "B H T V"]]:
    wanted = geometry.layer(layer_id)
    keys, values = _held(cache.layers[layer_id])
    # Shapes tell multi-head latent attention and repeated keys apart from an ordinary cache.
    widths = (wanted.heads, wanted.key_width, wanted.value_width)
    if keys is None or values is None or (keys.shape[1], keys.shape[3], values.shape[3]) != widths:
        raise ValueError(
            f"Layer {layer_id} of the cache does not hold what {type(model).__name__} attends to "
            f"({widths[0]} heads, keys of {widths[1]}, values of {widths[2]}): another model filled it, or "
            "the model caches something else than keys and values. Capture them with capture_kv instead."
        )
    return keys, values


def _held(layer: object) -> tuple[Tensor | None, Tensor | None]:
    """Keys (B, H, T, K) and values (B, H, T, V) of a cache's layer; None where it is empty or special."""
    if not isinstance(layer, DynamicLayer):
        return None, None
    return layer.keys, layer.values


@dataclass(frozen=True, slots=True)
class _Earlier:
    """The part of a cache before its last tokens."""

    prefix: Prefix
    mask: Bool[Tensor, "B P"]
    positions: Int[Tensor, "B P"]


def _importance(
    model: PreTrainedModel,
    cached: dict[int, tuple[Tensor, Tensor]],
    mask: Bool[Tensor, "B T"],
    last_ids: Int[Tensor, "B n"],
) -> dict[int, Float[Tensor, "B H T"]]:
    """Attention of the last n tokens to each token, by layer; they are read again on top of the others."""
    # Only the queries of the last tokens are missing from a cache: one forward pass over n tokens.
    size = mask.shape[1] - last_ids.shape[1]  # tokens before the last n
    prefix = {i: ([keys[:, :, :size]], [values[:, :, :size]]) for i, (keys, values) in cached.items()}
    # Keys in the cache carry their rotation already; the mask hides padding among them.
    before = _Earlier(prefix, mask[:, :size], text_order(mask)[:, :size])
    piece = Piece("last", "shared", last_ids, mask[:, size:])  # one reader: it sees the prefix and itself
    call = attention_call(Sequence((piece,), before.mask.sum(-1)), last_ids.shape[1], before)
    with rotation.evaluating(model), attention_backend(model, require_mask_support(model)):
        _read(model, last_ids, call)
    # (B, n, T): rows of padding among the last tokens are left out of the mean.
    visible = call.visible[:, 0] & mask[:, size:, None]  # pyright: ignore[reportOptionalSubscript]
    return {i: answer_attention(seen, seen.query, cached[i][0], visible) for i, seen in call.seen.items()}


def _read(model: PreTrainedModel, ids: Int[Tensor, "B n"], call: AttentionCall) -> None:
    body_of(model)(
        input_ids=ids,
        attention_mask=call.visible,
        position_ids=call.query_positions,
        use_cache=False,
        kv_call=call,
    )
