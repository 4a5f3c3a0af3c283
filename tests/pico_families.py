"""Tiny models of every causal language model that the installed transformers lists."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as tf
from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 96
MAX_NUMBERS = 2_000_000
TEXT = 24
"""Tokens that every tiny model has to read by itself before it is judged."""

WIDTHS = (
    "hidden_size d_model n_embd emb_dim embedding_dim embedding_size dim_model input_embedding_size "
    "output_embedding_size "
    "word_embed_proj_dim lru_width dim_model_base backbone_hidden_size"
)
LAYERS = (
    "num_hidden_layers n_layer n_layers num_layers num_blocks decoder_layers num_decoder_layers "
    "encoder_layers num_encoder_layers"
)
HEADS = (
    "num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads "
    "encoder_attention_heads "
    "num_decoder_attention_heads num_encoder_attention_heads swa_num_attention_heads index_n_heads "
    "linear_num_value_heads linear_num_heads"
)
FEW_HEADS = "num_key_value_heads num_kv_heads swa_num_key_value_heads linear_num_key_heads num_query_groups"
HEAD_WIDTHS = (
    "head_dim swa_head_dim d_head dim_head attention_head_size qk_head_dim index_head_dim kv_channels"
)
SMALL_WIDTHS = (
    "qk_nope_head_dim qk_rope_head_dim linear_key_head_dim linear_value_head_dim linear_head_dim "
    "mamba_head_dim mamba_d_head "
    "mamba_headdim hidden_size_per_layer_input laurel_rank rotary_dim"
)
MLP = (
    "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner d_inner dff dim_ff ffn_hidden_size "
    "intermediate_size_mlp "
    "dense_intermediate_size feed_forward_size moe_shared_expert_intermediate_size"
)
EXPERT_MLP = (
    "moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size expert_ffn_hidden_size "
    "shared_experts_intermediate_size prefix_dense_intermediate_size router_hidden_size"
)
EXPERTS = "num_experts num_local_experts n_routed_experts moe_num_experts zero_expert_num"
CHOSEN = "num_experts_per_tok num_experts_per_token moe_topk moe_k top_k_experts"
ONES = (
    "n_group topk_group n_shared_experts num_shared_experts moe_num_shared_experts first_k_dense_replace "
    "num_expert_group n_groups "
    "mamba_n_groups mamba_ngroups num_dense_layers moe_layer_start_index"
)
RANKS = (
    "q_lora_rank kv_lora_rank o_lora_rank state_size mamba_d_state ssm_state_size adapter_rank "
    "hc_lowrank mamba_dt_rank time_step_rank"
)
POSITIONS = (
    "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions "
    "max_source_positions model_max_length context_length"
)
WINDOWS = "sliding_window sliding_window_size local_attention window_size attention_window_size"
VOCABULARIES = "vocab_size vocab_size_per_layer_input decoder_vocab_size unpadded_vocab_size"
LONG_CHUNKS = "chunk_size mamba_chunk_size block_size index_block_size"
SIZES: dict[str, int | float] = {
    name: size
    for names, size in (
        (WIDTHS, 32),
        (LAYERS, 4),
        (HEADS, 4),
        (FEW_HEADS, 2),
        (HEAD_WIDTHS, 16),
        (SMALL_WIDTHS, 8),
        (MLP, 48),
        (EXPERT_MLP, 24),
        (EXPERTS, 4),
        (CHOSEN, 2),
        (ONES, 1),
        (RANKS, 8),
        (POSITIONS, 128),
        (WINDOWS, 6),
        (VOCABULARIES, VOCABULARY),
        (LONG_CHUNKS, 16),
    )
    for name in names.split()
} | {"v_head_dim": 12, "index_topk": 64, "attention_chunk_size": 64}
SIZES |= {
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "image_token_id": 90,
    "audio_token_id": 91,
    "video_token_id": 92,
}
SIZES |= {
    "image_token_index": 90,
    "boi_token_index": 93,
    "eoi_token_index": 94,
    "boi_token_id": 93,
    "eoi_token_id": 94,
}
"""Name of a field -> its size in a tiny configuration; fields with other names keep what their family gives
them.
"""


@dataclass(frozen=True)
class Case:
    """One configuration of one family."""

    family: str
    name: str = "default"
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the family's generic tiny configuration; a dictionary changes a nested configuration.
    """
    long: bool = False
    """Whether the tests' texts are longer than this configuration reads rightly: they may be refused when
    they come.
    """

    def __str__(self) -> str:
        return f"{self.family}/{self.name}"


def shrink(kind: type[tf.PreTrainedConfig], changes: Mapping[str, Any]) -> tf.PreTrainedConfig:
    """A configuration of this class with its sizes made tiny, and nested configurations likewise."""
    default = kind()
    known = default.to_dict()
    settings: dict[str, Any] = {name: size for name, size in SIZES.items() if name in known}
    if (
        "kv_lora_rank" in known
    ):  # multi-head latent attention: as many keys as queries, and only a part of each turns
        settings |= {
            "num_key_value_heads": settings["num_attention_heads"],
            "head_dim": settings["qk_rope_head_dim"],
        }
    settings |= copy.deepcopy(dict(changes))  # configurations write into the dictionaries that they are given
    for name in kind.sub_configs:
        sub = getattr(default, name, None)
        if isinstance(sub, tf.PreTrainedConfig):
            settings[name] = shrink(type(sub), changes.get(name, {}))
    return kind(**settings)


def build(case: Case, seed: int = 0) -> tf.PreTrainedModel:
    """The model of a case in evaluation mode, with weights whose effects show."""
    config = configuration(case)
    with torch.device("meta"):
        numbers = sum(
            parameter.numel()
            for parameter in tf.AutoModelForCausalLM.from_config(copy.deepcopy(config)).parameters()
        )
    if numbers > MAX_NUMBERS:
        raise ValueError(f"{numbers} parameters are too many for a tiny model")
    torch.manual_seed(seed)
    model = tf.AutoModelForCausalLM.from_config(config)
    model = stir(model, seed).eval()
    with torch.no_grad():
        if not model(input_ids=torch.arange(3, 3 + TEXT)[None]).logits.isfinite().all():
            raise ValueError("the plain model writes no finite logits")
    return model


def configuration(case: Case) -> tf.PreTrainedConfig:
    """The tiny configuration of a case."""
    return shrink(CONFIG_MAPPING[case.family], case.changes)


@torch.no_grad()
def stir(model: nn.Module, seed: int) -> nn.Module:
    """Draw weights at which attention is neither even nor sharp, and move gains, biases and gates off their
    neutral values.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        if parameter.ndim < 2:
            parameter.add_(0.2 * noise)
        else:
            parameter.copy_(noise * parameter.shape[-1] ** -0.5)
    return model
