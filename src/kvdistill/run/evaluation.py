"""Evaluate a student and write records and answers: shared by training runs and ``kvdistill evaluate``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from kvdistill.capture.attention import evaluating
from kvdistill.config import RunConfig
from kvdistill.console.wording import counted, short_number
from kvdistill.evaluation.evaluate import Evaluator
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.jsonfile import write_atomic
from kvdistill.records.schema import EvaluationRecord
from kvdistill.text import Encoded
from kvdistill.training_step import TrainingStep

LOSS_SAMPLES = 64
"""Validation samples whose losses are measured: one batch costs a small part of a validation."""


def evaluator_of(config: RunConfig, timed: int = 32) -> Evaluator:
    """The evaluator with a configuration's settings.

    Args:
        config: the run's configuration.
        timed: number of questions whose latency is measured; 0 measures none.
    """
    section = config.evaluation
    return Evaluator(
        batch_size=section.batch_size,
        max_new_tokens=section.max_new_tokens,
        timed=timed,
        progress=config.training.progress,
    )


def evaluate_run(
    config: RunConfig, model: LatentReasoner, questions: Sequence[Encoded], folder: Path
) -> tuple[EvaluationRecord, ...]:
    """Evaluate a student in every mode of ``evaluation.modes`` and write the records.

    Args:
        config: the run's configuration.
        model: the trained student; latent mode is skipped where its latents were not trained.
        questions: the encoded test set.
        folder: where records and answers are written.

    Returns:
        One record per mode, in the order of the configuration.
    """
    modes = [mode for mode in config.evaluation.modes if mode != "latent" or model.config.latents_trained]
    return tuple(
        write_evaluation(evaluator_of(config), model, questions, mode, Place(folder, "test"))
        for mode in modes
    )


def measure_during_training(
    config: RunConfig, validation: Sequence[Encoded], step: TrainingStep
) -> Callable[[Any, int], dict[str, float]]:
    """The validation metrics during training, in the mode that is trained.

    Args:
        config: the run's configuration; its task decides the mode.
        validation: the encoded validation set.
        step: the training step, for the losses of validation.

    Returns:
        A function of student and step that returns ``validation_accuracy`` (0 to 1), ``validation_nats``,
        the mean log-probability of the right answer, ``validation_ce``, its cross-entropy in nats per token,
        and ``validation_kv``, the KV loss against the run's targets without their control. The last two are
        of the first ``LOSS_SAMPLES`` samples; a metric is left out where the run has none.
    """
    reasoning: Any = config.training.task
    evaluator = replace(evaluator_of(config, timed=0), progress=False)
    lost = validation_losses(step, validation[:LOSS_SAMPLES])

    def measure(student: Any, step: int) -> dict[str, float]:
        measured = {"validation_accuracy": evaluator.accuracy(student, validation, reasoning)}
        values = evaluator.log_probabilities(student, validation, reasoning)
        if values is not None:
            # A text is longer than the model reads where there are none.
            measured |= {"validation_nats": fmean(values)} | lost()
        return measured

    return measure


def validation_losses(step: TrainingStep, samples: Sequence[Encoded]) -> Callable[[], dict[str, float]]:
    """The losses of a validation batch in evaluation mode.

    Args:
        step: the training step.
        samples: the batch; it is encoded for every reader once.

    Returns:
        A function without arguments that returns the losses by name, each with the prefix ``validation_``.
    """
    batch = step.collate(samples)

    def measure() -> dict[str, float]:
        with evaluating(step), torch.random.fork_rng():
            found = step.validate(batch.to(step.student.device))
        return {f"validation_{name}": float(value) for name, value in found.items()}

    return measure


@dataclass(frozen=True)
class Place:
    """Where the evaluations on one data set are written."""

    folder: Path
    data_set: str
    """Name of the data set in file names."""
    source: str | None = None
    """Path of the data; None for a run's own test set."""

    def record(self, mode: str) -> Path:
        """Path of one mode's record."""
        return self.folder / f"evaluation_{self.data_set}_{mode}.json"


def write_evaluation(
    evaluator: Evaluator, model: LatentReasoner, samples: Sequence[Encoded], mode: Any, place: Place
) -> EvaluationRecord:
    """Evaluate one mode and write its record and its answers.

    Args:
        evaluator: batch size, length limit and timing.
        model: the student.
        samples: the encoded questions.
        mode: ``latent``, ``cot`` or ``direct``.
        place: folder and name of the files.

    Returns:
        The record as written, with the name of the answers file.
    """
    record, said = evaluator.evaluate(model, samples, mode, place.data_set)
    path = place.record(mode)
    answers = path.with_suffix(".answers.txt")
    # One answer per line: line breaks inside an answer are escaped.
    write_atomic(answers, "".join(f"{text}\n".replace("\n", "\\n", text.count("\n")) for text in said))
    record = replace(record, answers=answers.name, source=place.source)
    record.write(path)
    return record


def summary_line(record: EvaluationRecord) -> str:
    """One line for an evaluation: accuracy and log-probability with their intervals, forward passes, tokens,
    latency, and accuracy by depth.
    """
    slow = ""
    if record.ms_batch1 is not None and record.ms_batch32 is not None:
        alone, together = short_number(record.ms_batch1), short_number(record.ms_batch32)
        slow = f", {alone} ms a question alone, {together} ms in batches of 32"
    return (
        f"{record.mode:>8} on {record.data_set}: {100 * record.accuracy:.1f} % right of {record.num} "
        f"(95 %: {100 * record.low:.1f}-{100 * record.high:.1f}), {_nats_phrase(record)}"
        f"{record.sequential_passes_mean:.1f} passes, "
        f"{counted(round(record.tokens_mean), 'token')} a question{slow}{_depth_phrase(record)}"
    )


def _nats_phrase(record: EvaluationRecord) -> str:
    """Log-probability of the right answer with its interval; empty where it was not measured."""
    if record.nats is None:
        return ""
    interval = ""
    if record.nats_low is not None and record.nats_high is not None:
        interval = f" (95 %: {record.nats_low:.3g} to {record.nats_high:.3g})"
    return f"right answer {record.nats:.3g} nats{interval}, "


def _depth_phrase(record: EvaluationRecord) -> str:
    """Accuracy by depth; empty where all questions have the same depth, or none is known."""
    if record.by_depth is None or len(record.by_depth) < 2:
        return ""
    shares = (f"{depth}: {100 * count.accuracy:.1f} %" for depth, count in record.by_depth.items())
    return f"; right by depth: {', '.join(shares)}"
