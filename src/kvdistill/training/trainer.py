"""transformers' Trainer for a latent student: what differs, and why."""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME

from kvdistill.data.batches import length_batches
from kvdistill.data.encode import num_tokens
from kvdistill.pipeline import Step
from kvdistill.text import Encoded


class LengthSampler(Sampler[int]):
    """Indices in batches of similar length; the order is a function of seed and epoch alone."""

    def __init__(self, samples: Sequence[Encoded], batch_size: int, seed: int) -> None:
        self.lengths = [num_tokens(sample) for sample in samples]
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        for batch in length_batches(self.lengths, self.batch_size, self.seed, self.epoch):
            yield from batch


class LatentTrainer(Trainer):
    """Trainer's loop, precision, accumulation and logging; the loss comes from ``step``."""

    def __init__(self, *args: Any, step: Step, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.step = step
        self._terms: dict[str, list[Tensor]] = defaultdict(list)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """The step's loss. Overridden since the loss compares two modes of the model, which no model computes by itself."""
        batch = inputs["batch"].to(self.args.device)
        done = self.state.global_step
        output = self.step(model, batch, done, done / max(self.state.max_steps, 1))
        self._refuse_nonfinite(output.loss, output.metrics, batch.sample_ids)
        for name, value in output.metrics.items():
            self._terms[name].append(value.detach().float())
        return (output.loss, output) if return_outputs else output.loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of every term since the last line. Overridden since Trainer knows only the sum."""
        if "loss" in logs:
            logs |= {name: round(float(torch.stack(values).mean()), 6) for name, values in self._terms.items()}
            self._terms.clear()
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthSampler:
        """Batches of similar length by index arithmetic. Overridden since Trainer's own needs to re-read what it skips."""
        return LengthSampler(train_dataset or self.train_dataset, self.args.train_batch_size, self.args.seed)  # pyright: ignore

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint whole or not at all. Overridden since Trainer writes in place, names by step and pickles arguments."""
        final = Path(self.args.output_dir) / checkpoint_name(self.state.epoch or 0.0, self.state.global_step)
        partial = final.with_name(f".{final.name}.partial")
        if self.args.should_save:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.accelerator.unwrap_model(self.model).save_pretrained(partial)
        self._save_optimizer_and_scheduler(str(partial))
        self._save_rng_state(str(partial))
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(str(partial / TRAINER_STATE_NAME))
            publish(partial, final)

    def _refuse_nonfinite(self, loss: Tensor, metrics: dict[str, Tensor], sample_ids: tuple[str, ...]) -> None:
        if not torch.isfinite(loss):
            bad = [name for name, value in metrics.items() if not torch.isfinite(value).all()] or ["the sum"]
            raise FloatingPointError(
                f"Step {self.state.global_step}: {', '.join(bad)} is not finite for samples {', '.join(sample_ids[:8])}. "
                "Lower training.lr or the weight of the term, or compute in float32 (training.precision)."
            )


def checkpoint_name(epoch: float, step: int) -> str:
    """``checkpoint-epN`` at the end of epoch N, ``checkpoint-epN-stepS`` inside epoch N."""
    whole = round(epoch)
    if whole >= 1 and abs(epoch - whole) < 1e-6:
        return f"checkpoint-ep{whole}"
    return f"checkpoint-ep{int(epoch) + 1}-step{step}"


def publish(partial: Path, final: Path) -> None:
    """Bring a written folder to its disk, then to its name; an older one of that name goes last."""
    for file in partial.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    older = final.with_name(f".{final.name}.older")
    shutil.rmtree(older, ignore_errors=True)
    if final.exists():
        final.rename(older)
    partial.rename(final)
    shutil.rmtree(older, ignore_errors=True)


def newest_checkpoint(folder: Path | str) -> Path | None:
    """The checkpoint with the most steps, by its state file; half-written folders have other names."""
    states = [path for path in Path(folder).glob(f"checkpoint-*/{TRAINER_STATE_NAME}") if path.parent.is_dir()]
    steps = {path.parent: json.loads(path.read_text(encoding="utf-8"))["global_step"] for path in states}
    return max(steps, key=lambda path: steps[path], default=None)
