"""The options of training, and how they become transformers' TrainingArguments."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from transformers import TrainingArguments

from kvdistill.console.extras import missing_packages
from kvdistill.console.paths import expanded


class TrainingSection(BaseModel):
    """How long, how fast, how precise, and what is written down on the way.

    Source of the defaults: https://arxiv.org/abs/2510.02312, table 6.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    output_dir: str = Field(default="outputs/run", min_length=1)
    task: Literal["latent", "explicit", "direct"] = "latent"
    """``latent`` distils; ``explicit`` fine-tunes on chains of thought, ``direct`` on answers without one
    (the references).
    """
    epochs: float = Field(default=10.0, gt=0, le=10**6)
    max_steps: int = Field(default=-1, ge=-1, le=10**9)
    """Stop after this many optimiser steps, whatever ``epochs`` says; -1 leaves it to ``epochs``."""
    batch_size: int = Field(default=16, ge=1, le=65536)
    """Examples per device and step."""
    gradient_accumulation_steps: int = Field(default=8, ge=1, le=65536)
    lr: float = Field(default=5e-4, gt=0, le=100)
    adam_beta2: float = Field(default=0.999, gt=0, lt=1)
    weight_decay: float = Field(default=0.1, ge=0, le=100)
    warmup_steps: float = Field(default=0.03, ge=0, le=10**9)
    """Steps, or below 1 the share of all steps."""
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    max_grad_norm: float = Field(default=2.0, ge=0, le=10**9)
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Mixed precision of the computation; the weights keep ``model.dtype``."""
    gradient_checkpointing: bool = False
    resume: bool = False
    """Go on from the newest checkpoint in ``output_dir``, or begin where there is none."""
    overwrite: bool = False
    """Train into a folder that already holds a run, which is deleted."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    logging_steps: int = Field(default=10, ge=1, le=10**9)
    eval_steps: int = Field(default=0, ge=0, le=10**9)
    """Evaluate on the validation set every so many steps; 0 only at the end."""
    stop_at_accuracy: float | None = Field(default=None, gt=0, le=1)
    """Stop once an evaluation on the validation set reaches this."""
    save_steps: int = Field(default=0, ge=0, le=10**9)
    """Also save between epochs, every so many steps; 0 saves at the end of each epoch only."""
    save_total_limit: int | None = Field(default=None, ge=1, le=10**6)
    """Keep only so many checkpoints, the newest; None keeps all."""
    num_workers: int = Field(default=0, ge=0, le=64)
    tensorboard: bool = True
    progress: bool = True

    @field_validator("output_dir")
    @classmethod
    def _home(cls, path: str) -> str:
        return expanded(path)

    @field_validator("max_steps")
    @classmethod
    def _some(cls, steps: int) -> int:
        if steps == 0:
            raise ValueError("give 1 or more, or -1 to leave it to epochs")
        return steps


def training_arguments(section: TrainingSection, has_unused: bool = False) -> TrainingArguments:
    """What transformers' Trainer is told; ``has_unused`` where some weights that train get no gradient (the
    feedback, say).

    Raises:
        ValueError: if the precision needs a GPU and there is none.
    """
    has_gpu = torch.accelerator.is_available()
    if section.precision == "fp16" and not has_gpu:
        raise ValueError(
            "training.precision fp16 needs a GPU, and none is visible: set training.precision to bf16 or "
            "float32."
        )
    # transformers renamed the option between the versions that are supported.
    named = {option.name for option in fields(TrainingArguments)} & {
        "activation_checkpointing",
        "gradient_checkpointing",
    }
    checkpointing: Any = {min(named): section.gradient_checkpointing}
    distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    has_tensorboard = section.tensorboard and not missing_packages("reporting")
    arguments = TrainingArguments(
        output_dir=str(Path(section.output_dir)),
        num_train_epochs=section.epochs,
        max_steps=section.max_steps,
        per_device_train_batch_size=section.batch_size,
        gradient_accumulation_steps=section.gradient_accumulation_steps,
        learning_rate=section.lr,
        adam_beta2=section.adam_beta2,
        weight_decay=section.weight_decay,
        warmup_steps=section.warmup_steps,
        lr_scheduler_type=section.scheduler,
        max_grad_norm=section.max_grad_norm,
        bf16=section.precision == "bf16",
        fp16=section.precision == "fp16",
        **checkpointing,
        seed=section.seed,
        data_seed=section.seed,
        logging_steps=section.logging_steps,
        logging_first_step=True,
        save_strategy="no",
        save_total_limit=section.save_total_limit,
        eval_strategy="no",
        dataloader_num_workers=section.num_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        use_cpu=not has_gpu,
        ddp_backend="gloo" if distributed and not has_gpu else None,
        ddp_find_unused_parameters=has_unused if distributed else None,
        report_to=["tensorboard"] if has_tensorboard else [],
        disable_tqdm=not section.progress,
    )
    # Several GPUs seen by one process would be driven by DataParallel, which cannot split a batch; torchrun
    # gives each its process.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
