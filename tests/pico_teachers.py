"""Runs that align tiny teachers with a tiny student: models on disk, configurations, and their batches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pico_tokenizer
from kvdistill.config import RunConfig
from kvdistill.data import Chain, encode_all
from kvdistill.data.collate import collate
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.run.student import template_of
from kvdistill.text import Batch, Encoded
from kvdistill.training_step import TrainingStep
from pico_students import on, save_base

TASK = Chain(names=5, steps=4)
SMALL: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": 512}
NUM = 40
"""Samples of a run: enough to fit adapters of 16 inputs per layer."""


def save_teachers(folder: Path) -> dict[str, Path]:
    """A student's base model, and two teachers that differ from it and from each other.

    Args:
        folder: Where the models are saved.

    Returns:
        By name: ``base``, the student's model, with word tokens; ``words``, a deeper Llama with its tokens;
        ``bytes``, a GPT-2 with a byte-level BPE.
    """
    found = {"base": save_base(folder / "base")}
    found["words"] = save_base(folder / "words", num_hidden_layers=3, num_key_value_heads=1, **SMALL)
    shape: dict[str, Any] = {**SMALL, "num_hidden_layers": 4, "vocab_size": 400}
    found["bytes"] = save_base(folder / "bytes", model_type="gpt2", **shape)
    pico_tokenizer.byte_bpe(texts()).save_pretrained(found["bytes"])
    return found


def texts() -> list[str]:
    """Texts that a tokenizer of the task is trained on."""
    return [example.question for example in TASK.make(20, "train", 1)]


def live(name: Path, **options: Any) -> dict[str, Any]:
    """The section of a separate teacher."""
    return {"kind": "live", "name": str(name), **options}


def run(base: Path, output: Path, teachers: dict[str, dict[str, Any]], **sections: Any) -> RunConfig:
    """A run of four steps whose bridge lowers these teachers.

    Args:
        base: The student's model.
        output: The run folder.
        teachers: Sections by short name.
        sections: Further sections; ``training`` is added to that of the run.

    Returns:
        The configuration.
    """
    training = {"output_dir": str(output), "max_steps": 4, "batch_size": 4, "lr": 1e-3, "warmup_steps": 0}
    training |= {"gradient_accumulation_steps": 1, "logging_steps": 1, "progress": False}
    training |= {"tensorboard": False, "report": False} | sections.pop("training", {})
    data = {"train": {"kind": "synthetic", "num": NUM, "task": {"names": 5, "steps": 4}}}
    rest = {"data": data, "bridge": {"kind": "lower"}, "loss": {"kv": {"distance": "l1"}}}
    return on(
        {"name": str(base)} | sections.pop("model", {}),
        teachers=teachers,
        training=training,
        **rest | sections,
    )


def encoded(model: LatentReasoner, num: int = 6, task: Chain = TASK) -> tuple[Encoded, ...]:
    """Samples of the task as a student reads them."""
    assert model.tokenizer is not None
    return encode_all(task.make(num, "train", 0), model.tokenizer, template_of(model)).samples


def batch_of(step: TrainingStep, samples: Sequence[Encoded], side: str = "right") -> Batch:
    """A batch for the student and its teachers."""
    return collate(samples, 0, padding_side=side, readers=step.readers)  # pyright: ignore[reportArgumentType]
