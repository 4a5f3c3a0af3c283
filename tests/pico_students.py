"""Configurations of tiny students, and models on disk as they come from the hub."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

import pico
import pico_tokenizer
from kvdistill.config import RunConfig, parse
from kvdistill.data import Chain, encode_all
from kvdistill.data.collate import collate
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.run.student import template_of
from kvdistill.text import Batch

TINY = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TINY |= {"intermediate_size": 48, "max_position_embeddings": 128}
TASK = Chain(names=5, steps=2)


def config(**sections: Any) -> RunConfig:
    """A student of 3 slots and 2 passes on the embedded task, all weights trained."""
    model = {"config": TINY, "tuning": {"kind": "full"}}
    data = {"train": {"kind": "synthetic", "num": 4, "task": {"names": 5, "steps": 2}}}
    return parse({"model": model, "data": data, "latent": {"slots": 3, "passes": 2}} | sections, "a test")


def on(model: dict[str, Any], **sections: Any) -> RunConfig:
    """The same on another model."""
    return config(model={"tuning": {"kind": "full"}} | model, **sections)


def batch_for(model: LatentReasoner) -> Batch:
    """Three samples of the task."""
    assert model.tokenizer is not None
    samples = encode_all(TASK.make(3, "train", 0), model.tokenizer, template_of(model)).samples
    return collate(samples, pad_id=model.tokenizer.pad_token_id)  # pyright: ignore


def loss_of(model: LatentReasoner) -> torch.Tensor:
    """What the student says and caches."""
    two = model.eval()(batch_for(model))
    return torch.cat(
        (
            two.teacher.rows.logits.flatten(),
            two.student.rows.logits.flatten(),
            two.student.kv.layers[-1].keys.flatten(),
        )
    )


def save_base(folder: Path, words: list[str] | None = None, **settings: Any) -> Path:
    """A backbone with its tokenizer, and nothing of this project."""
    tokenizer = pico_tokenizer.word_level(TASK.words() if words is None else words)
    settings = (
        TINY
        | {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
        | settings
    )
    known = pico.tf.CONFIG_MAPPING[settings.pop("model_type")]
    pico.from_config(known(**settings), seed=7).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = {config}
"""


def bring_code(base: Path, folder: Path, model_type: str) -> Path:
    """A copy of a Llama that brings its code: of a kind ``own``, or ``llama`` with another class."""
    shutil.copytree(base, folder)
    (folder / "own.py").write_text(
        OWN_CODE.format(config="OwnConfig" if model_type == "own" else "LlamaConfig")
    )
    code = {"AutoModelForCausalLM": "own.OwnForCausalLM"} | (
        {"AutoConfig": "own.OwnConfig"} if model_type == "own" else {}
    )
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": model_type, "auto_map": code}))
    return folder
