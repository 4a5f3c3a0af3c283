"""What the tests compare with: the model's own projections, and plain calls of transformers without anything
of this project.
"""

import sys
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kvdistill.capture.attention import PREFIX
from kvdistill.latent.reasoner import LatentReasoner

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn")
NORMS = ("q_norm", "k_norm", "q_layernorm", "k_layernorm")


@dataclass(frozen=True)
class Projected:
    """Queries, keys and values of one attention layer as its own projections and norms gave them, [B, heads,
    S, width].
    """

    module: nn.Module
    query: Tensor
    keys: Tensor
    values: Tensor
    rotary: tuple[Tensor, Tensor] | None
    """Cosine and sine as the model hands them to the layer; None where the layer does not turn."""

    def rotated(self) -> tuple[Tensor, Tensor]:
        """Queries and keys turned by the model's own function."""
        if self.rotary is None:
            return self.query, self.keys
        turn = sys.modules[type(self.module).__module__].apply_rotary_pos_emb
        width = self.rotary[0].shape[-1]  # of the channels that turn
        query, keys = turn(self.query[..., :width], self.keys[..., :width], *self.rotary)
        return torch.cat((query, self.query[..., width:]), -1), torch.cat((keys, self.keys[..., width:]), -1)


def projected(model: PreTrainedModel, **inputs: object) -> tuple[Tensor, dict[int, Projected]]:
    """Logits of one call, and what each layer's projections gave, by hooks that are gone afterwards."""
    attentions = {
        module.layer_idx: module for module in model.modules() if type(module).__name__.endswith("Attention")
    }
    raw: dict[int, dict[str, object]] = {layer_id: {} for layer_id in attentions}
    hooks = []
    for layer_id, module in attentions.items():
        store = raw[layer_id]
        hooks.append(
            module.register_forward_pre_hook(
                lambda _, args, kwargs, store=store: store.update(rotary=kwargs.get("position_embeddings")),
                with_kwargs=True,
            )
        )
        for name, child in module.named_children():
            if name in PROJECTIONS + NORMS:
                hooks.append(
                    child.register_forward_hook(
                        lambda _, args, out, store=store, name=name: store.update({name: out})
                    )
                )
    try:
        logits = model(**inputs, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
    return logits, {
        layer_id: _split(attentions[layer_id], raw[layer_id], model.config) for layer_id in attentions
    }


def _split(module: nn.Module, raw: dict[str, object], config: object) -> Projected:
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", heads)
    width = getattr(module, "head_dim", None) or module.head_size

    def by_head(states: Tensor) -> Tensor:
        states = states.unflatten(-1, (-1, width)) if states.ndim == 3 else states
        return states if states.shape[1] in (heads, kv_heads) else states.transpose(1, 2)

    if "query_key_value" in raw:
        query, keys, values = (
            by_head(part) for part in raw["query_key_value"].unflatten(-1, (heads, -1)).chunk(3, -1)
        )
    elif "qkv_proj" in raw:
        sizes = [heads * width, kv_heads * width, kv_heads * width]
        query, keys, values = (by_head(part) for part in raw["qkv_proj"].split(sizes, -1))
    elif "c_attn" in raw:
        query, keys, values = (by_head(part) for part in raw["c_attn"].chunk(3, -1))
    else:
        query, keys, values = (
            by_head(raw.get("q_norm", raw.get("q_layernorm", raw["q_proj"]))),
            by_head(raw.get("k_norm", raw.get("k_layernorm", raw["k_proj"]))),
            by_head(raw["v_proj"]),
        )
    return Projected(
        module, query, keys, values, raw["rotary"] if getattr(module, "use_rope", True) else None
    )


def window_of(config: object, layer_id: int) -> int | None:
    """The sliding window that a configuration gives to a layer."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return config.sliding_window if kinds[layer_id] == "sliding_attention" else None
    return getattr(config, "sliding_window", None)


def plain(model: LatentReasoner, embeds: Tensor) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """One unpadded sample through transformers' own causal model: logits, hidden states, cache."""
    backbone = model.backbone
    backbone.config._attn_implementation = backbone.config._attn_implementation.removeprefix(PREFIX)
    output = backbone(inputs_embeds=embeds, use_cache=True, output_hidden_states=True)
    backbone.config._attn_implementation = PREFIX + backbone.config._attn_implementation
    cache = [(layer.keys, layer.values) for layer in output.past_key_values.layers]
    return output.logits[0], torch.stack(output.hidden_states)[:, 0], cache


def thought(model: LatentReasoner, row: dict[str, tuple[int, ...]]) -> Tensor:
    """Inputs up to the last latent slot, all M slots recomputed from the first token on in every pass."""
    special, slots = model.special, model.config.slots
    head = model.embed(torch.tensor([[*row["question"], *row["student_cue"], special.bot]]))
    latents = model.embed(torch.full((1, slots), special.latent))
    for _ in range(model.config.passes):
        _, hidden, _ = plain(model, torch.cat((head, latents), 1))
        states = hidden[-1][None, head.shape[1] - 1 : -1]
        if model.config.layout == "blocks":
            states = hidden[-1][None, head.shape[1] :]
        latents = model.feedback(states)
        if model.config.feedback == "add":
            latents = latents + model.embed(torch.full((1, slots), special.latent))
    return torch.cat((head, latents), 1)


def attended(config: object, layer_id: int, layer: Projected, columns: list[int], rows: list[int]) -> Tensor:
    """How rows of the first sample spread their attention over columns, in float64, one head and row at a
    time, [heads, columns].

    Columns are counted as positions, so the sample must not be padded between them. Rows that see none of
    them are left out.
    """
    query, keys = (states[0].double() for states in layer.rotated())
    scaling = getattr(config, "query_pre_attn_scalar", query.shape[-1]) ** -0.5
    cap, window = getattr(config, "attn_logit_softcapping", None), window_of(config, layer_id) or 1000
    group = query.shape[0] // keys.shape[0]
    result = torch.zeros(keys.shape[0], len(columns), dtype=torch.float64)
    sees = {
        row: [place for place, column in enumerate(columns) if 0 <= row - column < window] for row in rows
    }
    num_rows = sum(bool(places) for places in sees.values())
    for head in range(keys.shape[0]):
        for row, places in sees.items():
            if places:
                logits = (
                    query[head * group : (head + 1) * group, row]
                    @ keys[head, [columns[place] for place in places]].T
                    * scaling
                )
                logits = logits if cap is None else cap * torch.tanh(logits / cap)
                result[head, places] += logits.amax(0).softmax(-1) / num_rows
    return result if num_rows else torch.full_like(result, 1 / len(columns))
