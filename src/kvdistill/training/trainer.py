"""transformers' Trainer for a latent student: what differs, and why."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME

from kvdistill.kv import LossOutput
from kvdistill.pipeline import Step
from kvdistill.training.sampler import LengthSampler


class LatentTrainer(Trainer):
    """Trainer's loop, precision, accumulation and logging; the loss comes from ``step``."""

    def __init__(self, *args: Any, step: Step, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.step = step
        self._terms: dict[str, Tensor] = {}
        self._steps = 0.0

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """The step's loss. Overridden since the loss compares two modes of the model, which no model computes by itself."""
        batch = inputs["batch"].to(self.args.device)
        done = self.state.global_step
        output = self.step(model, batch, done, done / max(self.state.max_steps, 1))
        refuse_nonfinite(output, done + 1, batch.sample_ids)
        share = len(batch) / num_items_in_batch
        self._steps += share
        for name, value in output.metrics.items():
            self._terms[name] = self._terms.get(name, 0) + share * value.detach().float()
        loss = output.loss * share * self.current_gradient_accumulation_steps  # Trainer divides by that number
        return (loss, output) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """The batches of one optimiser step and their number of samples, so that each sample weighs the same.

        Overridden since Trainer counts labels, and the short batch that ends an epoch would weigh as much as the others.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return batches, sum(len(inputs["batch"]) for inputs in batches)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of every term since the last line, over all processes. Overridden since Trainer knows only the sum."""
        if "loss" in logs:
            means = {name: self.accelerator.reduce(value / self._steps, "mean") for name, value in self._terms.items()}
            logs = logs | {name: round(float(value), 6) for name, value in means.items()}  # pyright: ignore[reportArgumentType]
            self._terms, self._steps = {}, 0.0
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthSampler:
        """Batches of similar length. Overridden since the order of Trainer's own depends on more than seed and epoch."""
        samples: Any = self.train_dataset if train_dataset is None else train_dataset
        return LengthSampler(samples, self.args.train_batch_size, self.args.seed)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint whole or not at all. Overridden since Trainer writes in place, names by step and pickles arguments."""
        final = Path(str(self.args.output_dir)) / checkpoint_name(self.state.epoch or 0.0, self.state.global_step)
        partial = final.with_name(f".{final.name}.partial")
        if self.args.should_save:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.accelerator.unwrap_model(self.model).save_pretrained(partial)
        self._save_optimizer_and_scheduler(str(partial))
        self._save_scaler(str(partial))
        self._save_rng_state(str(partial))
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(str(partial / TRAINER_STATE_NAME))
            publish(partial, final)
            keep_newest(final.parent, self.args.save_total_limit)


def refuse_nonfinite(output: LossOutput, step: int, sample_ids: tuple[str, ...]) -> None:
    """Stop where a loss is not finite.

    Raises:
        FloatingPointError: naming the step, the terms and the first samples of the batch.
    """
    if torch.isfinite(output.loss):
        return
    bad = [name for name, value in output.metrics.items() if not torch.isfinite(value).all()] or ["the weighted sum"]
    raise FloatingPointError(
        f"In step {step}, {', '.join(bad)} is not finite for samples {', '.join(sample_ids[:8])}. "
        "Lower training.lr or the weight of the term, or compute in float32 (training.precision)."
    )


def checkpoint_name(epoch: float, step: int) -> str:
    """``checkpoint-epN`` at the end of epoch N, ``checkpoint-epN-stepS`` inside epoch N."""
    if epoch >= 1 and epoch == int(epoch):
        return f"checkpoint-ep{int(epoch)}"
    return f"checkpoint-ep{int(epoch) + 1}-step{step}"


def publish(partial: Path, final: Path) -> None:
    """Bring a written folder to its disk, then to its name; an older one of that name goes last."""
    for path in (*partial.rglob("*"), partial):
        _to_disk(path)
    older = _hidden(final)
    partial.rename(final)
    _to_disk(final.parent)
    shutil.rmtree(older, ignore_errors=True)


def checkpoints(folder: Path | str) -> list[Path]:
    """The checkpoints of a run, fewest steps first, by their state files; half-written and half-deleted ones have other names."""
    states = Path(folder).glob(f"checkpoint-*/{TRAINER_STATE_NAME}")
    steps = {path.parent: json.loads(path.read_text(encoding="utf-8"))["global_step"] for path in states}
    return sorted(steps, key=lambda path: steps[path])


def newest_checkpoint(folder: Path | str) -> Path | None:
    """The checkpoint with the most steps, None where there is none."""
    return next(reversed(checkpoints(folder)), None)


def keep_newest(folder: Path, limit: int | None) -> None:
    """Delete all but the ``limit`` checkpoints with the most steps; None keeps all."""
    for old in [] if limit is None else checkpoints(folder)[:-limit]:
        shutil.rmtree(_hidden(old))


def _hidden(folder: Path) -> Path:
    """Take a checkpoint, where there is one, out of sight before it is deleted, so that no half of it is ever found."""
    hidden = folder.with_name(f".{folder.name}.older")
    shutil.rmtree(hidden, ignore_errors=True)
    if folder.exists():
        folder.rename(hidden)
    return hidden


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
