"""Conversion of the ``[training]`` section to transformers' TrainingArguments."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from kvdistill.config.training import TrainingSection
from kvdistill.console.extras import missing_packages


def training_arguments(section: TrainingSection, has_unused: bool = False) -> TrainingArguments:
    """TrainingArguments with the settings of a section.

    Args:
        section: The ``[training]`` section of the configuration.
        has_unused: Whether some trainable weights get no gradient in a step (the feedback, say), which
            DistributedDataParallel has to know.

    Returns:
        Arguments for one device per process; saving and evaluation are left to callbacks.

    Raises:
        ValueError: if the precision needs a GPU and there is none.
    """
    has_gpu = torch.accelerator.is_available()
    if section.precision == "fp16" and not has_gpu:
        raise ValueError(
            "training.precision fp16 needs a GPU, and none is visible: set training.precision to bf16 or "
            "float32."
        )
    # The supported versions of transformers have different names for this option.
    named = {option.name for option in fields(TrainingArguments)} & {
        "activation_checkpointing",
        "gradient_checkpointing",
    }
    checkpointing: Any = {min(named): section.gradient_checkpointing}
    reports: list[str] = []
    if section.tensorboard and not missing_packages("reporting"):
        reports = ["tensorboard"]
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
        **_distribution(has_gpu, has_unused),
        report_to=reports,
        disable_tqdm=not section.progress,
    )
    # With several visible GPUs Trainer would use DataParallel, which cannot split a Batch; torchrun starts
    # one process per GPU instead.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _distribution(has_gpu: bool, has_unused: bool) -> dict[str, Any]:
    """Options of DistributedDataParallel; empty in a single process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return {}
    options: dict[str, Any] = {"ddp_find_unused_parameters": has_unused}
    if not has_gpu:
        options["ddp_backend"] = "gloo"
    return options
