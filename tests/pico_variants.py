"""Which configurations of the families are tried: one of each, and those in which a layer does something of
its own.
"""

from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pico_families import VOCABULARY, Case

FULL, SLIDING, LINEAR, CONV = "full_attention", "sliding_attention", "linear_attention", "conv"
MIXED = [SLIDING, FULL, SLIDING, FULL]
ONLY_FULL = [FULL] * 4
HYBRID, ATTENTION_FIRST = [LINEAR, FULL, LINEAR, FULL], [FULL, FULL, LINEAR, LINEAR]
CONV_FIRST, CONV_LAST = [CONV, FULL, CONV, FULL], [FULL, FULL, CONV, CONV]
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 32}
TEMPERATURE = YARN | {
    "original_max_position_embeddings": 8,
    "llama_4_scaling_beta": 0.5,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
SCALED = {
    "embedding_multiplier": 1.5,
    "residual_multiplier": 0.7,
    "attention_multiplier": 0.4,
    "logits_scaling": 3.0,
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8}
EYES = {"image_size": 28, "patch_size": 14, "vision_output_dim": 32}
QSA = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 64,
    "indexer_compress_ratio": 4,
}
AXIAL = {"axial_pos_shape": [8, 16], "axial_pos_embds_dim": [16, 16]}
CHUNKS = {"local_attn_chunk_length": 8, "lsh_attn_chunk_length": 8, "num_buckets": 2}
PRONOUNCED = {"pronunciation_vocab_size": VOCABULARY, "pronunciation_embed_dim": 16}
SHAPED = {"shape_vocab_size": VOCABULARY, "shape_embed_dim": 16}
SHARED_BLOCKS = {"layers_block_type": [LINEAR, "hybrid", LINEAR, "hybrid"], "use_mamba_kernels": False}
SWA_OF_DOTS = {
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "swa_q_lora_rank": 8,
    "swa_kv_lora_rank": 8,
}
SWA_OF_DOTS |= {"swa_head_dim": 16, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 12}
DOTS = SWA_OF_DOTS | {
    "layer_types": ["indexed_attention", SLIDING, "indexed_attention", SLIDING],
    "mlp_layer_types": None,
}
DOTS_SEES = {"adapter_in_dim": 32, "adapter_out_dim": 32, "mlp_layer_types": ["dense"] * 4}
DOTS_HEARS = {
    "adapter_input_size": 32,
    "adapter_out_dim": 32,
    "downsample_hidden_size": 8,
    "num_key_value_heads": None,
}
PHI_HEARS = {
    "ext_pw_out_channel": 32,
    "depthwise_separable_out_channel": 32,
    "nemo_conv_channels": 8,
    "num_blocks": 1,
}
GEMMA_3N = {
    "layer_types": MIXED,
    "num_kv_shared_layers": 0,
    "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
}

FIXES: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"layer_group_size": 2},
    "bamba": MAMBA | {"attn_layer_indices": [1, 3]},
    "cohere_compass_text": {"layer_types": MIXED, "rope_parameters": {FULL: PLAIN_ROPE, SLIDING: PLAIN_ROPE}},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 24},
    },
    "dots3_note": {"text_config": DOTS, "vision_config": DOTS_SEES, "audio_config": DOTS_HEARS},
    "dots3_note_text": DOTS,
    "fuyu": {"image_size": 28, "patch_size": 14},
    "gemma3": {"text_config": {"layer_types": MIXED}, "vision_config": EYES, "mm_tokens_per_image": 4},
    "gemma3_text": {"layer_types": MIXED},
    "gemma3n_text": GEMMA_3N,
    "gemma4_text": {"layer_types": MIXED, "global_head_dim": 32},
    "gemma4": {"text_config": {"layer_types": MIXED, "global_head_dim": 32}},
    "gemma4_unified_text": {"layer_types": MIXED, "global_head_dim": 32},
    "gemma4_unified": {"text_config": {"layer_types": MIXED, "global_head_dim": 32}},
    "got_ocr2": {
        "vision_config": EYES
        | {"output_channels": 8, "mlp_dim": 32, "global_attn_indexes": [1], "window_size": 2}
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": MAMBA | {"layer_types": HYBRID},
    "helium": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "kimi_linear": {"layer_types": HYBRID, "linear_head_dim": 8, "q_lora_rank": None},
    "lfm2": {"layer_types": CONV_FIRST},
    "lfm2_moe": {"layer_types": CONV_FIRST},
    "phi4_multimodal": {"vision_config": EYES | {"crop_size": 28}, "audio_config": PHI_HEARS},
    "qwen4_exp": {"text_config": QSA | {"layer_types": HYBRID, "hc_count": 2}},
    "qwen4_exp_text": QSA | {"layer_types": HYBRID, "hc_count": 2},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": AXIAL
    | CHUNKS
    | {"is_decoder": True, "hash_seed": 0, "attn_layers": ["local", "lsh"] * 2, "attention_head_size": 8},
    "roc_bert": PRONOUNCED | SHAPED,
    "xlnet": {"d_head": 8},
    "xmod": {"default_language": "en_XX"},
    "zamba": SHARED_BLOCKS,
    "zamba2": SHARED_BLOCKS,
    "zaya": {"num_experts_per_tok": 1},
}
"""Family -> what its generic tiny configuration needs to be built, or to show the layout that its real models
have.
"""

NOT_TINY = {
    "blt": "reads bytes in patches that a second model cuts; hash tables of fixed size",
    "gemma3n": "its image tower needs the package timm",
    "gemma4_assistant": "drafts for another model, whose hidden states it reads",
    "gemma4_unified_assistant": "drafts for another model, whose hidden states it reads",
    "moss_transcribe_diarize": "speech tower of fixed size",
    "musicgen": "writes sound, conditioned on an encoder",
    "musicgen_melody": "writes sound, conditioned on an encoder",
    "xlstm": "its own recurrence fails at tiny widths (shapes of its state)",
}
"""Family -> why no tiny model of it is tried."""

BERTS = (
    "bert bert-generation camembert data2vec-text electra ernie megatron-bert rembert roberta "
    "roberta-prelayernorm roc_bert roformer "
    "xlm-roberta xlm-roberta-xl xmod big_bird"
)

VARIANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *((family, "decoder", {"is_decoder": True}) for family in BERTS.split()),
    ("afmoe", "mup", {"mup_enabled": True}),
    ("axk1", "yarn", {"rope_parameters": YARN}),
    ("bamba", "attention_only", {"attn_layer_indices": [0, 1, 2, 3]}),
    ("bamba", "attention_first", {"attn_layer_indices": [0, 1]}),
    ("bert", "two_types", {"is_decoder": True, "type_vocab_size": 2, "hidden_act": "relu"}),
    ("cohere", "unscaled", {"logit_scale": 1.0}),
    ("cohere", "qk_norm", {"logit_scale": 1.0, "use_qk_norm": True}),
    ("cohere2", "unscaled", {"logit_scale": 1.0, "layer_types": MIXED}),
    ("cohere2_moe", "unscaled", {"logit_scale": 1.0, "layer_types": MIXED}),
    ("deepseek_v2", "full_query", {"q_lora_rank": None}),
    ("deepseek_v3", "yarn", {"rope_parameters": YARN}),
    ("deepseek_v3", "half_split", {"rope_interleave": False, "q_lora_rank": None}),
    ("diffllama", "bias", {"attention_bias": True}),
    ("doge", "moe", {"is_moe": True, "num_experts": 4, "num_experts_per_tok": 2}),
    ("ernie4_5", "bias", {"use_bias": True}),
    ("exaone4", "full", {"sliding_window": None, "layer_types": ONLY_FULL}),
    ("exaone4", "hybrid", {"layer_types": MIXED}),
    ("gemma2", "mixed", {"layer_types": MIXED, "query_pre_attn_scalar": 24}),
    (
        "gemma3_text",
        "softcap",
        {"layer_types": MIXED, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 2.0},
    ),
    ("gemma3_text", "bidirectional", {"layer_types": MIXED, "use_bidirectional_attention": True}),
    ("gemma3n_text", "shared", {"num_kv_shared_layers": 2}),
    ("gemma4_text", "no_layer_inputs", {"hidden_size_per_layer_input": 0}),
    ("gemma4_text", "equal_widths", {"hidden_size_per_layer_input": 0, "global_head_dim": 16}),
    ("gemma4_text", "wide", {"hidden_size_per_layer_input": 0, "global_head_dim": 64}),
    (
        "gemma4_text",
        "keys_are_values",
        {"hidden_size_per_layer_input": 0, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
    ),
    ("gemma4_text", "shared", {"num_kv_shared_layers": 2}),
    (
        "gemma4_text",
        "moe",
        {"hidden_size_per_layer_input": 0, "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2},
    ),
    (
        "gemma4",
        "no_layer_inputs",
        {"text_config": {"layer_types": MIXED, "hidden_size_per_layer_input": 0, "global_head_dim": 32}},
    ),
    ("glm4_moe", "qk_norm", {"use_qk_norm": True}),
    ("gpt2", "by_layer", {"scale_attn_by_inverse_layer_idx": True}),
    ("gpt2", "upcast", {"reorder_and_upcast_attn": True}),
    ("gpt_bigcode", "all_heads", {"multi_query": False}),
    ("gpt_neox", "in_order", {"use_parallel_residual": False}),
    ("gpt_oss", "yarn", {"rope_parameters": YARN, "layer_types": MIXED}),
    ("granite", "scaled", SCALED),
    ("granite_swa", "scaled", SCALED),
    ("granitemoe", "scaled", SCALED),
    ("granitemoe_swa", "scaled", SCALED),
    ("granitemoeshared", "scaled", SCALED),
    ("granitemoehybrid", "scaled", SCALED | {"layer_types": ONLY_FULL}),
    ("granitemoehybrid", "attention_only", {"layer_types": ONLY_FULL}),
    ("granitemoehybrid", "rotary", {"layer_types": ONLY_FULL, "position_embedding_type": "rope"}),
    ("granitemoehybrid", "attention_first", {"layer_types": ATTENTION_FIRST}),
    ("hunyuan_v1_dense", "bias", {"attention_bias": True}),
    ("hyperclovax", "scaled", SCALED),
    ("jamba", "attention_only", {"attn_layer_period": 1, "attn_layer_offset": 0}),
    ("lfm2", "attention_only", {"layer_types": ONLY_FULL}),
    ("lfm2", "attention_first", {"layer_types": CONV_LAST}),
    ("lfm2_moe", "attention_first", {"layer_types": CONV_LAST}),
    ("lfm3", "attention_first", {"layer_types": CONV_LAST}),
    ("llama", "yarn", {"rope_parameters": YARN}),
    ("llama", "bias", {"attention_bias": True, "mlp_bias": True}),
    ("llama", "tied", {"tie_word_embeddings": True}),
    ("llama4_text", "temperature", {"attn_temperature_tuning": True, "floor_scale": 4, "attn_scale": 0.5}),
    ("llama4_text", "no_norm", {"use_qk_norm": False, "no_rope_layers": [1, 0, 1, 0]}),
    ("minimax", "attention_only", {"layer_types": ONLY_FULL}),
    ("minimax", "attention_first", {"layer_types": ATTENTION_FIRST}),
    ("ministral3", "temperature", {"rope_parameters": TEMPERATURE}),
    ("mistral", "no_window", {"sliding_window": None}),
    ("mixtral", "no_window", {"sliding_window": None}),
    ("modernbert-decoder", "biased", {"norm_bias": True, "mlp_bias": True, "attention_bias": True}),
    ("nemotron_h", "attention_only", {"layers_block_type": [FULL, "mlp", FULL, "moe"]}),
    ("nemotron_h", "attention_first", {"layers_block_type": [FULL, "mlp", LINEAR, "moe"]}),
    ("olmo", "clipped", {"clip_qkv": 0.5}),
    ("olmoe", "clipped", {"clip_qkv": 0.5}),
    ("olmo3", "mixed", {"layer_types": MIXED}),
    ("olmo_hybrid", "attention_first", {"layer_types": ATTENTION_FIRST}),
    ("opt", "after", {"do_layer_norm_before": False}),
    ("opt", "projected", {"word_embed_proj_dim": 16}),
    ("persimmon", "no_norm", {"qk_layernorm": False}),
    ("phi", "qk_norm", {"qk_layernorm": True}),
    (
        "phi3",
        "partial",
        {"sliding_window": None, "rope_parameters": PLAIN_ROPE | {"partial_rotary_factor": 0.5}},
    ),
    ("qwen2", "sliding", {"use_sliding_window": True, "max_window_layers": 2}),
    ("qwen2_moe", "sliding", {"use_sliding_window": True, "max_window_layers": 2}),
    ("qwen3", "sliding", {"use_sliding_window": True, "max_window_layers": 2, "attention_bias": True}),
    ("qwen3_moe", "sliding", {"use_sliding_window": True, "max_window_layers": 2}),
    ("qwen3_5_text", "attention_first", {"layer_types": ATTENTION_FIRST}),
    ("qwen3_5_text", "attention_only", {"layer_types": ONLY_FULL}),
    ("qwen3_next", "attention_first", {"layer_types": ATTENTION_FIRST}),
    ("qwen3_next", "attention_only", {"layer_types": ONLY_FULL}),
    ("recurrent_gemma", "attention_only", {"block_types": ["attention"]}),
    ("recurrent_gemma", "attention_first", {"block_types": ["attention", "recurrent"]}),
    ("seed_oss", "bias", {"attention_bias": True, "attention_out_bias": True}),
    ("smollm3", "no_positions", {"no_rope_layers": [1, 0, 1, 0]}),
    ("smollm3", "sliding", {"use_sliding_window": True, "layer_types": MIXED}),
    ("stablelm", "qk_norm", {"qk_layernorm": True}),
    ("zaya", "sliding", {"layer_types": ["hybrid_sliding", "hybrid"] * 2, "sliding_window": 6}),
)
"""Family, name, and what differs from the family's first configuration."""

LONG: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("axk2", "few_tokens", {"index_topk": 4}),
    ("deepseek_v32", "few_tokens", {"index_topk": 4}),
    ("deepseek_v4", "few_tokens", {"index_topk": 4}),
    ("dots3_note_text", "few_tokens", {"index_topk": 4}),
    ("glm_moe_dsa", "few_tokens", {"index_topk": 4}),
    ("hy_v4", "few_tokens", {"index_topk": 4}),
    ("llama4_text", "chunks", {"attention_chunk_size": 8}),
    ("minimax_m3_vl_text", "few_blocks", {"index_block_size": 4, "index_topk_blocks": 1}),
    ("qwen4_exp_text", "few_tokens", {"indexer_budget": 4}),
)
"""The same of configurations that read a text as the tests' in another way than a short one."""

CASES = (
    *(
        Case(family, "default", FIXES.get(family, {}))
        for family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        if family not in NOT_TINY
    ),
    *(Case(family, name, FIXES.get(family, {}) | changes) for family, name, changes in VARIANTS),
    *(Case(family, name, FIXES.get(family, {}) | changes, long=True) for family, name, changes in LONG),
)
"""Every configuration that is tried."""
