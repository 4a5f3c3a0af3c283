"""The models of the demo of several teachers, and the stages that train each of them.

The student is the demo's: Llama, two layers, whole words. The teachers differ from it and from each other in
depth, heads, widths, position encoding, key norm and tokenizer:

* ``gpt2``: three layers, learned positions, byte-level encoding; names are one token, other words several.
* ``qwen3``: two layers, grouped queries, key norm, wider heads, another encoding; names are several tokens.

All are trained on chains of thought of the same task, with the stages of the demo's warm start.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kvdistill.commands.demo.recipe import GIVER, LONG, MIXED, Stage, warm_stages
from kvdistill.data import Chain

GPT2: dict[str, Any] = {
    "config": {
        "model_type": "gpt2",
        "n_embd": 64,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": 192,
        "initializer_range": 0.06,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": False,
    },
    "new_tokenizer": {"kind": "byte_bpe", "vocab": 322},
}
QWEN3: dict[str, Any] = {
    "config": {
        "model_type": "qwen3",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "intermediate_size": 256,
        "max_position_embeddings": 192,
        "initializer_range": 0.06,
        "tie_word_embeddings": False,
    },
    "new_tokenizer": {"kind": "metaspace_bpe", "vocab": 152},
}
FIRST: dict[str, Chain] = {"gpt2": replace(LONG, trace="verbose"), "qwen3": LONG}
"""The longest chains, from which a look-up of the next holder is learned.

GPT-2's tokens of a word differ at the beginning of a line, so a terse step's name is not the token that it is
in the question; within a verbose step it is.
"""
LONGEST = 72
"""Most tokens of a teacher's chain of thought and answer."""


def teacher_stages(name: str, model: dict[str, Any], share: float = 1.0) -> list[Stage]:
    """The stages of a teacher: those of the student's warm start, with half as many questions a step.

    Args:
        name: Short name of the teacher.
        model: Options of the ``model`` section of the new teacher.
        share: Share (0 to 1) of each stage's steps.

    Returns:
        The stages in order; each starts from the checkpoint of the one before.
    """
    cot = {"task": "cot", "lr": 2e-3, "batch_size": 32}
    measured = cot | {"eval_steps": 50}
    stages = [
        Stage("look_up", FIRST[name], 1200, measured | {"stop_at_accuracy": 0.85}),
        Stage("giver", GIVER, 900, measured | {"stop_at_accuracy": 0.97}),
        Stage("mixed", MIXED, 900, measured | {"stop_at_accuracy": 0.97}),
        Stage("final", MIXED, 300, cot | {"scheduler": "cosine", "warmup_steps": 0, "eval_steps": 100}),
    ]
    return [replace(stage, model=model, max_new_tokens=LONGEST).shortened(share) for stage in stages]


FAMILIES: dict[str, Callable[[float], list[Stage]]] = {
    "student": warm_stages,
    "gpt2": lambda share: teacher_stages("gpt2", GPT2, share),
    "qwen3": lambda share: teacher_stages("qwen3", QWEN3, share),
}
"""Stages of each model by its name, given the share (0 to 1) of their steps."""
TEACHERS = ("gpt2", "qwen3")
