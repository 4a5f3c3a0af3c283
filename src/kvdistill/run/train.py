"""One training run: from a configuration to a trained and evaluated student with its run folder."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from kvdistill.config import RunConfig
from kvdistill.console.extras import how_to_install, missing_packages
from kvdistill.data.encode import pad_id_of
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.calibration import CALIBRATION, CalibrationRecord
from kvdistill.records.schema import EvaluationRecord, RunRecord
from kvdistill.run.alignment import align_teachers, teachers_record
from kvdistill.run.evaluation import LOSS_SAMPLES, evaluate_run, measure_during_training
from kvdistill.run.example import write_example
from kvdistill.run.folder import (
    RunState,
    clear_run_dir,
    inspect_run_dir,
    lock_run_dir,
    mark_completed,
    summary,
)
from kvdistill.run.graphs import padded, use_graphs
from kvdistill.run.loading import collate_batch, training_data
from kvdistill.run.preparation import prepare
from kvdistill.run.provenance import record_of
from kvdistill.run.readings import require_readings
from kvdistill.run.routing import RouteFit, fit_routing, report_unknown, set_competence
from kvdistill.run.routing_record import write_routing
from kvdistill.run.samples import Samples, fingerprint, require_files, samples_of
from kvdistill.run.step import step_model
from kvdistill.run.stream import SampleStream
from kvdistill.run.student import resumed_student, starting_student
from kvdistill.run.windows import require_data_windows, require_windows, windows_of
from kvdistill.text import Encoded
from kvdistill.training.arguments import training_arguments
from kvdistill.training.callbacks import EndEpoch, EvaluateWhen, SaveWhen, WriteLogs, interruptible, reached
from kvdistill.training.checkpoint import newest_checkpoint, read_state
from kvdistill.training.means import TERMS
from kvdistill.training.ranks import Ranks
from kvdistill.training.stream import Stream, unwrap_worker_error
from kvdistill.training.trainer import LatentTrainer
from kvdistill.training_step import TrainingStep


@dataclass(frozen=True)
class Trained:
    """The result of a run; its folder holds the same on disk."""

    model: LatentReasoner | None
    """None where the run was finished before this call: its newest checkpoint holds the student."""
    folder: Path
    evaluations: tuple[EvaluationRecord, ...]


@dataclass
class Run:
    """One training run on one process: the state that its stages share."""

    config: RunConfig
    args: TrainingArguments
    ranks: Ranks
    start: RunState
    record: RunRecord
    model: LatentReasoner
    samples: Samples
    questions: tuple[Encoded, ...]
    """The test set, read before the first step, so that a broken one is noticed before training."""
    calibration: CalibrationRecord | None = None
    """How the teachers were aligned; None where they were not."""
    routing: RouteFit | None = None
    """Prototypes of the teachers; None where there are none, or the run resumes."""
    measured: tuple[Encoded, ...] = ()
    """The validation samples whose losses are measured."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.start.folder


def train(config: RunConfig, command: str | None = None) -> Trained:
    """Train a student, evaluate it on the test set and write the run folder.

    The folder then holds run.json, metrics.jsonl, training_log.txt, checkpoints, evaluations, the report and,
    as the last file, TRAINING_COMPLETED.txt.

    Args:
        config: the run; with ``training.resume`` an interrupted run resumes from its newest checkpoint, and
            the results of a finished one are only read.
        command: the command line as typed, for run.json.

    Returns:
        The student, the folder and one evaluation per mode (on rank 0).

    Raises:
        ValueError: if the configuration does not fit what it names, or the folder holds another run.
    """
    clock = time.monotonic()
    args = training_arguments(
        config.training, has_unused=config.training.task != "latent" or config.latent.passes == 0
    )
    torch.device(args.device)  # joins the other processes, where there are any
    ranks = Ranks.here()
    start = inspect_run_dir(config, ranks.size)
    if start.finished:
        return _finished(config, start)
    with lock_run_dir(start.folder, ranks.rank == 0):
        ranks.wait()  # every process has inspected the folder before rank 0 changes it
        run = _prepare(config, args, ranks, start, command)
        trainer = _trainer(run)
        run.record = replace(run.record, data=_same_data(run, trainer.train_dataset))
        if ranks.rank == 0:
            clear_run_dir(start)
            run.record.write(run.folder / "run.json")
            if run.calibration is not None:
                run.calibration.write(run.folder / CALIBRATION)
            if run.routing is not None:
                run.routing.write(run.folder)
        ranks.wait()
        if not _is_trained(config, start):
            with interruptible(trainer, ranks):
                _train(trainer, start)
        ranks.wait()
        evaluations = _finish(run, trainer, clock) if ranks.rank == 0 else ()
    return Trained(run.model, run.folder, evaluations)


def _same_data(run: Run, data: Any) -> str | None:
    """Fingerprint of the training data; refuses to resume a run on other data."""
    read, before = getattr(data, "read", None), run.start.before
    found = fingerprint(data) if read is None else read.fingerprint()
    if run.start.checkpoint is not None and before is not None and before.data != found:
        raise ValueError(
            f"The training data is not what {run.folder} was begun with: its rows, or how they become "
            "tokens, have changed. Put the old "
            f"data back, or begin a new run from {run.start.checkpoint} (--model_name)."
        )
    return found


def _train(trainer: LatentTrainer, start: RunState) -> None:
    try:
        trainer.train(resume_from_checkpoint=None if start.checkpoint is None else str(start.checkpoint))
    except ValueError as error:
        raise ValueError(unwrap_worker_error(error)) from error


def _prepare(
    config: RunConfig, args: TrainingArguments, ranks: Ranks, start: RunState, command: str | None
) -> Run:
    require_files(config.data)
    prepare(config, ranks, partial(print, file=sys.stderr, flush=True))
    set_seed(config.training.seed)
    now = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    if start.checkpoint is None:
        model = starting_student(config)
    else:
        model = resumed_student(config, start.checkpoint)
    record = replace(record_of(config, now, command), processes=ranks.size)
    if start.checkpoint is not None and start.before is not None:
        record = replace(record, started=start.before.started, resumes=start.before.resumes + 1)
    samples = samples_of(config, model, start.folder, first=ranks.rank == 0)
    if samples.first and start.checkpoint is None:
        samples.forget()
    if missing_packages("reporting"):
        samples.say(f"No report.html and no TensorBoard files: {how_to_install('reporting')}")
    if config.all_teachers and not config.reads_teachers:
        names = ", ".join(getattr(section, "name", name) for name, section in config.all_teachers.items())
        samples.say(
            f"The teacher {names} is not read: this run compares no caches (training.task, loss.kv_weight)"
        )
    questions = (
        () if config.data.test is None else samples.read(config.data.test, "test")[: config.evaluation.num]
    )
    return Run(config, args, ranks, start, record, model, samples, questions)


def _is_trained(config: RunConfig, start: RunState) -> bool:
    """Whether the newest checkpoint is the last one, so that only evaluation and report are missing."""
    if start.checkpoint is None:
        return False
    state = read_state(start.checkpoint)
    stopped = any(reached(row, config.training.stop_at_accuracy) for row in state.log_history)
    return stopped or state.global_step >= state.max_steps


def _finished(config: RunConfig, start: RunState) -> Trained:
    """The results of a run that was finished before, read from its folder."""
    found = (start.folder / f"evaluation_test_{mode}.json" for mode in config.evaluation.modes)
    records = tuple(EvaluationRecord.read(path) for path in found if path.is_file())
    return Trained(None, start.folder, records)


def _finish(run: Run, trainer: LatentTrainer, clock: float) -> tuple[EvaluationRecord, ...]:
    """Evaluate, write the report, and mark the run as finished."""
    config, folder = run.config, run.folder
    evaluations = evaluate_run(config, run.model, run.questions, folder) if run.questions else ()
    record = replace(run.record, seconds=time.monotonic() - clock)
    record.write(folder / "run.json")
    write_example(config, run.model, run.questions, folder)
    write_routing(trainer.model, run.measured, folder)
    if config.training.report and not missing_packages("reporting"):
        from kvdistill.reporting.report import write_report  # loads matplotlib and scipy

        write_report(folder)
    data = trainer.train_dataset
    if isinstance(data, Stream) and isinstance(data.read, SampleStream) and data.read.report():
        run.samples.notes.append(data.read.report())
    mark_completed(folder, summary(record, _closing(run, evaluations)))
    return evaluations


def _closing(run: Run, evaluations: Sequence[EvaluationRecord]) -> dict[str, Any]:
    """Results for TRAINING_COMPLETED.txt: steps, last losses, accuracies, and what was left out."""
    newest = newest_checkpoint(run.folder)
    assert newest is not None
    state = read_state(newest)
    last = next((row for row in reversed(state.log_history) if "epoch_loss" in row), {})
    lines: dict[str, Any] = {
        "resumed": f"{run.record.resumes} times",
        "checkpoint": newest.name,
        "steps": state.global_step,
    }
    lines |= {
        f"last epoch's {name}": f"{last[f'epoch_{name}']:.4f}" for name in TERMS if f"epoch_{name}" in last
    }
    lines |= {
        f"accuracy, {r.mode}": f"{100 * r.accuracy:.1f} % of {r.num} on {r.data_set}" for r in evaluations
    }
    return lines | {f"left out ({number})": note for number, note in enumerate(run.samples.notes, start=1)}


def _trainer(run: Run) -> LatentTrainer:
    config = run.config
    data, batches = training_data(config, run.samples, run.ranks)
    step = step_model(config, run.model, run.ranks)
    if not isinstance(data, Stream):
        require_readings(step.teachers, data, run.samples.say)
    require_data_windows(step.teachers, data, run.start.checkpoint is not None)
    fingerprints = teachers_record(step, run.start.before, run.start)
    run.record = replace(run.record, teachers=fingerprints or None)
    if step.teachers and config.model.device_map is None:
        step.to(run.args.device)  # calibration runs the student before Trainer would move it
    set_competence(config, step)
    if not isinstance(data, Stream):
        report_unknown(step, data, "training", run.samples.say)
    # Before the alignment, which measures what the fused target is worth.
    run.routing = fit_routing(config, step, data, run.start.checkpoint)
    run.calibration = align_teachers(config, step, data, run.start.checkpoint, run.samples.say)
    assert run.model.tokenizer is not None
    use_graphs(config, step, run.args.device, run.ranks, run.samples.say)
    collate = partial(
        collate_batch,
        pad_id=pad_id_of(run.model.tokenizer),
        readers=step.readers,
        sampler=batches,
        windows=windows_of(step.teachers),
        competence=step.competence,
    )
    trainer = LatentTrainer(
        model=step,
        args=run.args,
        train_dataset=data,
        data_collator=padded(config, collate),
        callbacks=[WriteLogs(run.folder, run.record.command or "")],
        batches=batches,
        ranks=run.ranks,
    )
    if config.data.validation is not None:
        trainer.add_callback(_validation(run, step, trainer))
    trainer.add_callback(EndEpoch(trainer.log_epoch))
    trainer.add_callback(SaveWhen(config.training.save_steps))
    return trainer


def _validation(run: Run, step: TrainingStep, trainer: LatentTrainer) -> EvaluateWhen:
    """The evaluation during training; its questions are read and checked now."""
    config, data = run.config, run.config.data.validation
    assert data is not None
    questions = run.samples.read(data, "validation")[: config.evaluation.during_training]
    run.measured = questions[:LOSS_SAMPLES]
    require_windows(step.teachers, run.measured, "validation")
    report_unknown(step, run.measured, "validation", run.samples.say)
    return EvaluateWhen(
        measure_during_training(config, questions, step),
        config.training.eval_steps,
        trainer.log,
        config.training.stop_at_accuracy,
    )
