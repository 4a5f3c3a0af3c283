"""Tiny models of every supported architecture, built from configurations, and batches of random tokens for
them.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
import transformers as tf

from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.text import Batch, Padded, ReaderBatch

VOCABULARY = 64
SPECIAL = {"bot": 61, "eot": 62, "latent": 63}
_SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = _SHAPE | {"num_key_value_heads": 2}
_HALF = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
_SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]


def _yarn() -> dict[str, object]:
    return {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 32}


CONFIGS = {
    "llama": lambda: tf.LlamaConfig(**_GROUPED),
    "llama_yarn": lambda: tf.LlamaConfig(**_GROUPED, rope_parameters=_yarn()),
    "llama_tied": lambda: tf.LlamaConfig(**_GROUPED, tie_word_embeddings=True),
    "qwen2": lambda: tf.Qwen2Config(**_GROUPED),
    "qwen3": lambda: tf.Qwen3Config(**_GROUPED, head_dim=16),
    "mistral": lambda: tf.MistralConfig(**_GROUPED, sliding_window=8),
    "gemma2": lambda: tf.Gemma2Config(**_GROUPED, head_dim=16, sliding_window=8),
    "gemma3": lambda: tf.Gemma3TextConfig(**_GROUPED, head_dim=16, sliding_window=8, layer_types=_SLIDING),
    "gpt2": lambda: tf.GPT2Config(
        n_embd=32,
        n_layer=3,
        n_head=4,
        vocab_size=VOCABULARY,
        n_positions=128,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    ),
    "opt": lambda: tf.OPTConfig(
        **{k: v for k, v in _SHAPE.items() if k != "intermediate_size"}, ffn_dim=48, word_embed_proj_dim=32
    ),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**_SHAPE, rotary_pct=0.5),
    "phi3": lambda: tf.Phi3Config(**_GROUPED),
    "olmo2": lambda: tf.Olmo2Config(**_GROUPED),
    "glm": lambda: tf.GlmConfig(**_GROUPED, head_dim=8),
    "stablelm": lambda: tf.StableLmConfig(**_GROUPED, qk_layernorm=True, rope_parameters=_HALF),
}
"""Architecture -> configuration of a pico model."""


def _llama_with(rope: dict[str, object], **changes: object) -> Callable[[], tf.LlamaConfig]:
    return lambda: tf.LlamaConfig(**_GROUPED | changes, rope_parameters={"rope_theta": 10000.0, **rope})


_LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_LONGROPE = {
    "rope_type": "longrope",
    "factor": 8.0,
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.0, 2.0, 3.0, 4.0],
    "original_max_position_embeddings": 16,
}
CAPTURED = CONFIGS | {
    "llama_linear": _llama_with({"rope_type": "linear", "factor": 4.0}),
    "llama3": _llama_with({"rope_type": "llama3", **_LLAMA3}),
    "llama_dynamic": _llama_with({"rope_type": "dynamic", "factor": 2.0}, max_position_embeddings=16),
    "phi3_longrope": lambda: tf.Phi3Config(
        **_GROUPED, rope_parameters=_LONGROPE, original_max_position_embeddings=16
    ),
    "smollm3": lambda: tf.SmolLM3Config(**_GROUPED, no_rope_layers=[1, 0, 1]),
    "cohere": lambda: tf.CohereConfig(**_GROUPED),
    "stablelm_plain": lambda: tf.StableLmConfig(**_GROUPED, use_parallel_residual=True),
    "nemotron": lambda: tf.NemotronConfig(**_GROUPED),
}
"""The same and further rotations, which capture tests try too; the last two of Llama and Phi-3 change beyond
16 tokens. StableLM's and Nemotron's layers drop their keyword arguments.
"""


def backbone(name: str, seed: int = 0, attention: str | None = None) -> tf.PreTrainedModel:
    """A pico causal language model with random weights, in evaluation mode.

    Biases and norms start at 0 and 1 in most architectures, which hides errors; here they are random too.
    """
    return from_config(CAPTURED[name](), seed, attention)


def from_config(
    config: tf.PreTrainedConfig, seed: int = 0, attention: str | None = None
) -> tf.PreTrainedModel:
    """The model that a configuration describes, with random weights as in ``backbone``."""
    torch.manual_seed(seed)
    model = tf.AutoModelForCausalLM.from_config(
        config, **({"attn_implementation": attention} if attention else {})
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def reasoner(name: str = "llama", seed: int = 0, **settings: object) -> LatentReasoner:
    """A pico latent student on a pico backbone, in eval mode; ``attention`` is the backbone's backend."""
    attention = settings.pop("attention", None)
    model = backbone(name, seed, None if attention is None else str(attention))
    config = LatentConfig(backbone=model.config, special=dict(SPECIAL), **settings)  # pyright: ignore
    return LatentReasoner(config, model).eval()


def spread_out(model: LatentReasoner) -> LatentReasoner:
    """Larger weights, so that answers depend on the text and not on its last token alone."""
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5.0)
    return model


@cache
def samples(num: int = 3, seed: int = 0) -> tuple[dict[str, tuple[int, ...]], ...]:
    """Random token ids of unlike lengths, segment by segment; the answer ends with the end-of-sequence token
    2.
    """
    generator = torch.Generator().manual_seed(seed)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        count = int(torch.randint(low, high + 1, (1,), generator=generator))
        return tuple(torch.randint(3, 60, (count,), generator=generator).tolist())

    prompt = tokens(2, 2)
    return tuple(
        {
            "question": tokens(3, 14),
            "cue": (),
            "student_cue": (),
            "cot": tokens(6, 15),
            "prompt": prompt,
            "answer": (*tokens(1, 3), 2),
        }
        for _ in range(num)
    )


def cued(num: int = 3) -> tuple[dict[str, tuple[int, ...]], ...]:
    """``samples`` whose question ends differently for the two modes."""
    return tuple({**row, "cue": (7,), "student_cue": (8, 9)} for row in samples(num))


def pad(rows: list[tuple[int, ...]], side: str = "right", extra: int = 0) -> Padded:
    """Rows of ids side by side, padded with 0 to the longest and ``extra`` more."""
    width = max((len(row) for row in rows), default=0)
    width += extra if width else 0
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for line, row in enumerate(rows):
        where = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[line, where], mask[line, where] = torch.tensor(row, dtype=torch.long), True
    return Padded(ids, mask)


def batch(rows: tuple[dict[str, tuple[int, ...]], ...], side: str = "right", extra: int = 0) -> Batch:
    """A batch of ``samples``; every third token of a chain of thought ends a step."""
    parts = {name: pad([row[name] for row in rows], side, extra) for name in rows[0]}
    student_cue = parts.pop("student_cue")
    teacher_mode = reader_batch(**parts)
    student_mode = replace(teacher_mode.without_cot(), cue=student_cue)
    ids = tuple(str(index) for index in range(len(rows)))
    return Batch(student_mode, teacher_mode, torch.arange(len(rows)), ids)


def reader_batch(**parts: Padded) -> ReaderBatch:
    """What a reader reads; every third token of the chain of thought ends a step; one character a token."""
    mask = parts["cot"].mask
    order = mask.long().cumsum(-1)
    spans = torch.stack((order - 1, order), -1) * mask[..., None]
    step = torch.where(mask, (order - 1) // 3, -1)
    return ReaderBatch(**parts, step_end=mask & (order % 3 == 0), spans=spans, step=step)
