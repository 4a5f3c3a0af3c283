"""Short runs of the trainer on tiny students."""

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn
from torch.utils.data import BatchSampler
from transformers import set_seed

import pico_trained
from kvdistill.config.training import TrainingSection
from kvdistill.data.collate import collate
from kvdistill.data.encode import num_tokens
from kvdistill.kv import LossOutput
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.pipeline import TrainingStep
from kvdistill.records.schema import Metrics
from kvdistill.text import Batch, Encoded
from kvdistill.training.arguments import training_arguments
from kvdistill.training.callbacks import EndEpoch, SaveWhen, WriteLogs
from kvdistill.training.sampler import RankBatches
from kvdistill.training.trainer import LatentTrainer


class InOrder(BatchSampler):
    """Samples as they stand, whatever the batch size, so that runs of unlike batches see the same."""

    def set_epoch(self, epoch: int) -> None:
        pass


def collated(samples: Sequence[Encoded]) -> dict[str, Batch]:
    return {"batch": collate(samples, 0)}


StepFunction = Callable[[LatentReasoner, Batch, int, float], LossOutput]


class FunctionStep(TrainingStep):
    """A step whose loss a function computes."""

    def __init__(self, student: LatentReasoner, function: StepFunction) -> None:
        super().__init__(student)
        self.function = function

    def forward(self, batch: Batch, step: int, progress: float) -> LossOutput:
        return self.function(self.student, batch, step, progress)


def make(
    folder: Path,
    model: LatentReasoner | None = None,
    step: TrainingStep | StepFunction | None = None,
    ordered: bool = False,
    num: int = 8,
    **options: object,
) -> LatentTrainer:
    """A trainer on the first ``num`` samples: three optimiser steps of four samples unless ``options`` say
    otherwise.
    """
    model = pico_trained.student() if model is None else model
    if step is None:
        step = pico_trained.distillation(model)
    elif not isinstance(step, TrainingStep):
        step = FunctionStep(model, step)
    section = {
        "batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 3,
        "lr": 1e-3,
        "warmup_steps": 0,
        "logging_steps": 1,
    }
    section |= {"output_dir": str(folder), "scheduler": "constant", "tensorboard": False, "progress": False}
    told = TrainingSection(**section | options)  # pyright: ignore[reportArgumentType]
    set_seed(told.seed)
    samples = pico_trained.samples(model)[:num]
    lengths = [num_tokens(sample) for sample in samples]
    trainer = LatentTrainer(
        model=step,
        args=training_arguments(told),
        train_dataset=samples,
        data_collator=collated,
        callbacks=[WriteLogs(folder)],
        batches=InOrder(range(num), told.batch_size, drop_last=False)
        if ordered
        else RankBatches(lengths, told.batch_size, told.seed),
    )
    trainer.add_callback(EndEpoch(trainer.log_epoch))
    trainer.add_callback(SaveWhen(told.save_steps))
    return trainer


def distance(one: nn.Module, other: nn.Module) -> float:
    """The largest difference between two models' weights."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((first.detach() - second.detach()).abs().max()) for first, second in pairs)


def trained(folder: Path, **settings: object) -> LatentReasoner:
    """The model that such a run leaves."""
    trainer = make(folder, **settings)  # pyright: ignore[reportArgumentType]
    trainer.train()
    return trainer.model.student  # pyright: ignore


def logged(folder: Path) -> dict[str, dict[int, float]]:
    """What the run wrote down: name -> step -> value."""
    return Metrics(folder / "metrics.jsonl").series()
