"""transformers' Trainer for a latent student; each override states why it is needed."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Sampler
from transformers import PrinterCallback, ProgressCallback, Trainer
from transformers.trainer import OPTIMIZER_NAME, SCALER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME

from kvdistill.kv import LossOutput
from kvdistill.records.renamed import METRICS
from kvdistill.training.callbacks import Progress
from kvdistill.training.checkpoint import (
    EXTRA_STATE_FILE,
    atomic_checkpoint,
    checkpoint_name,
    keep_newest,
    load_extra_state,
    publish,
    readable,
    save_extra_state,
)
from kvdistill.training.means import TERMS, Means
from kvdistill.training.ranks import Ranks
from kvdistill.training.sampler import EpochLoader
from kvdistill.training.step import StepModel
from kvdistill.training.stream import Stream, StreamState


class LatentTrainer(Trainer):
    """Trainer whose loss is computed by a ``StepModel`` and whose data order comes from a batch sampler.

    Args:
        model: The module that is trained.
        args, kwargs: As in transformers.
        batches: Batch sampler of this process.
        ranks: This process among all; by default the only one.
    """

    def __init__(
        self,
        model: StepModel,
        *args: Any,
        batches: Sampler[Any],
        ranks: Ranks | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, *args, **kwargs)  # pyright: ignore[reportArgumentType]
        self.batches, self.ranks = batches, ranks or Ranks()
        self.terms, self.epoch_terms = Means(), Means()
        self._place: StreamState | None = None
        self.remove_callback(PrinterCallback)
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(Progress())

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Loss of a batch. Overridden since the loss also depends on the progress of training."""
        batch = inputs["batch"].to(self.args.device)
        done = self.state.global_step
        output = model(batch=batch, step=done, progress=done / max(self.state.max_steps, 1))
        refuse_nonfinite(output, done + 1, batch.sample_ids)
        share = len(batch) / num_items_in_batch
        for means in (self.terms, self.epoch_terms):
            means.add(output.metrics | {"loss": output.loss}, share)
        self._place = inputs.get("place", self._place)
        # Undo later divisions: Trainer's by the batches of a step, DistributedDataParallel's by processes.
        loss = output.loss * share * self.current_gradient_accumulation_steps * self.ranks.size
        if return_outputs:
            return loss, output
        return loss

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Batches of one optimizer step, and their number of samples over all processes.

        Overridden since Trainer counts labels, and a smaller last batch would weigh as much as the others;
        dividing by samples gives each sample the same weight.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        # Mostly the first step only: a resumed run restores what was measured there from its checkpoint.
        model = self._step_model()
        if not model.prepared:
            model.train()
            with self.compute_loss_context_manager(), self.accelerator.autocast():
                model.prepare([inputs["batch"].to(device) for inputs in batches])
        count = torch.tensor(float(sum(len(inputs["batch"]) for inputs in batches)), device=device)
        return batches, int(self.ranks.sum(count))

    def _step_model(self) -> StepModel:
        """The model without its distributed wrapper."""
        return self.accelerator.unwrap_model(self.model)  # pyright: ignore[reportReturnType]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the mean of every term since the last line, over all processes.

        Overridden since Trainer only averages the total loss.
        """
        if "loss" in logs:
            logs = logs | {name: round(value, 6) for name, value in self.terms.take(self.ranks).items()}
        super().log(logs, start_time)

    def log_epoch(self) -> None:
        """Log the mean of every term over the epoch that ends, with the prefix ``epoch_``."""
        means = self.epoch_terms.take(self.ranks)
        super().log({f"epoch_{name}": round(means[name], 6) for name in TERMS if name in means})

    def get_train_dataloader(self) -> EpochLoader:
        """Loader of this process's batches.

        Overridden since accelerate would distribute complete batches over processes and repeat samples.
        """
        workers = self.args.dataloader_num_workers
        if isinstance(self.train_dataset, Stream):
            workers = min(workers, 1)  # a stream is read in order
        return EpochLoader(
            self.train_dataset,  # pyright: ignore[reportArgumentType]
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory,
            # The loader draws a seed per epoch, which must not advance the global generator.
            generator=torch.Generator().manual_seed(self.args.seed),
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Restore training state other than weights, optimizer and random numbers.

        Overridden since Trainer loads weights leniently; a resumed run has already loaded its student from
        the checkpoint, strictly.
        """
        folder = Path(resume_from_checkpoint)
        tensors, place = load_extra_state(folder)
        with readable(folder, EXTRA_STATE_FILE):
            self._hand_out(tensors, place)

    def _hand_out(self, tensors: dict[str, torch.Tensor], place: dict[str, Any] | None) -> None:
        """Give each owner its tensors; names are ``owner/name``, as ``_carried`` writes them."""
        parts: dict[str, dict[str, Any]] = {"step": {}, "terms": {}, "epoch": {}}
        for name, value in tensors.items():
            owner, _, own = name.partition("/")
            parts[owner][METRICS.get(own, own)] = value
        self._step_model().load_state(parts["step"])
        self.terms.load_state(parts["terms"], self.ranks, self.args.device)
        self.epoch_terms.load_state(parts["epoch"], self.ranks, self.args.device)
        if place is not None and isinstance(self.train_dataset, Stream):
            self._place = self.train_dataset.start = StreamState(**place)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As in Trainer. Overridden, like the next two, so that errors name the file."""
        with readable(Path(checkpoint or ""), OPTIMIZER_NAME, SCHEDULER_NAME):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with readable(Path(checkpoint or ""), SCALER_NAME):
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        name = "rng_state.pth"
        if self.args.world_size > 1:
            name = f"rng_state_{self.args.process_index}.pth"
        with readable(Path(checkpoint or ""), name):
            super()._load_rng_state(checkpoint)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint atomically, under a temporary name first.

        Overridden since Trainer writes in place, names folders by step and pickles its arguments.
        """
        final = Path(str(self.args.output_dir)) / checkpoint_name(
            self.state.epoch or 0.0, self.state.global_step
        )
        partial = final.with_name(f".{final.name}.partial")
        first = self.args.should_save
        refuse_nonfinite_weights(self.model, self.state.global_step)  # pyright: ignore[reportArgumentType]
        tensors = self._carried()
        with atomic_checkpoint(partial, final, first):
            if first:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
            self.accelerator.wait_for_everyone()  # until the folder exists
            if first:
                self._step_model().trained().save_pretrained(partial)
                save_extra_state(partial, tensors, self._place and self._place.plain())
            self._save_optimizer_and_scheduler(str(partial))
            self._save_scaler(str(partial))
            self._save_rng_state(str(partial))
            self.accelerator.wait_for_everyone()  # until every process has written its random state
            if first:
                self.state.save_to_json(str(partial / TRAINER_STATE_NAME))
                publish(partial, final)
                keep_newest(final.parent, self.args.save_total_limit)

    def _carried(self) -> dict[str, torch.Tensor]:
        """Training state by ``owner/name``. Every process has to call it, since it sums over them."""
        step = self._step_model().state()
        parts = {
            "step": step,
            "terms": self.terms.state(self.ranks),
            "epoch": self.epoch_terms.state(self.ranks),
        }
        return {f"{owner}/{name}": value for owner, held in parts.items() for name, value in held.items()}


def refuse_nonfinite(output: LossOutput, step: int, sample_ids: Sequence[str]) -> None:
    """Stop training at a loss that is not finite.

    Args:
        output: Loss and metrics of a batch.
        step: Number of the optimizer step, from 1.
        sample_ids: Ids of the batch's samples, for the message.

    Raises:
        FloatingPointError: naming the step, the terms and the first samples of the batch.
    """
    if torch.isfinite(output.loss):
        return
    bad = [name for name, value in output.metrics.items() if not torch.isfinite(value).all()] or [
        "the weighted sum"
    ]
    raise FloatingPointError(
        f"In step {step}, {', '.join(bad)} is not finite for samples {', '.join(sample_ids[:8])}. "
        "Lower training.lr or the weight of the term, or compute in float32 (training.precision)."
    )


def refuse_nonfinite_weights(model: nn.Module, step: int) -> None:
    """Stop training at weights that are not finite, before they are saved.

    Args:
        model: Its trainable weights are checked.
        step: Optimizer steps done, for the message.

    Raises:
        FloatingPointError: naming the step and the first weights.
    """
    bad = [
        name
        for name, value in model.named_parameters()
        if value.requires_grad and not torch.isfinite(value).all()
    ]
    if bad:
        raise FloatingPointError(
            f"After step {step}, {len(bad)} weights are not finite ({', '.join(bad[:3])}); they are not "
            "saved. Lower training.lr, or "
            "compute in float32 (training.precision)."
        )
