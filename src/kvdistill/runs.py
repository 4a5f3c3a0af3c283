"""From a configuration to a trained, evaluated student and the files that tell how it came about."""

import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from kvdistill.config import DataSection, DataSet, FileData, RunConfig, resolved
from kvdistill.data import collate, encode_all, load
from kvdistill.evaluation.evaluate import Evaluator
from kvdistill.jsonfile import write_atomic
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.losses import OtherSample, Shuffled
from kvdistill.pipeline import Step, explicit_step
from kvdistill.record import EvaluationRecord, RunRecord
from kvdistill.reporting.report import write_report
from kvdistill.students import build_student, template_of
from kvdistill.text import Batch, Encoded, Example
from kvdistill.training.arguments import training_arguments
from kvdistill.training.callbacks import EvaluateWhen, SaveWhen, WriteMetrics
from kvdistill.training.trainer import LatentTrainer

WRITTEN = ("checkpoint-*", ".checkpoint-*", "evaluation_*", "report.*", "figures", "runs")
"""What a run leaves in its folder beside run.json and metrics.jsonl."""
PACKAGES = ("kvdistill", "torch", "transformers", "peft", "accelerate", "tokenizers")


@dataclass(frozen=True)
class Trained:
    """What a run leaves in memory; the folder holds the same."""

    model: LatentReasoner
    folder: Path
    evaluations: tuple[EvaluationRecord, ...]


def train(config: RunConfig, command: str | None = None) -> Trained:
    """Train as the configuration says, evaluate on the test set, and write run.json, metrics, checkpoints, evaluations, report.

    Raises:
        ValueError: in words, if the configuration and what it names do not fit together.
    """
    folder = _free_folder(config)
    set_seed(config.training.seed)
    started, clock = datetime.now(UTC).astimezone().isoformat(timespec="seconds"), time.monotonic()
    model = build_student(config)
    if config.training.task == "latent" and not model.config.taught:
        model.start_feedback()
        model.config.taught = True
    samples = _with_partners(config, read_data(config.data, config.data.train, model, config.training.task == "direct"))
    questions = () if config.data.test is None else read_data(config.data, config.data.test, model)[: config.evaluation.num]
    trainer = _trainer(config, model, samples, folder)
    record = record_of(config, started, command)
    _clear(folder)
    record.write(folder / "run.json")
    trainer.train()
    trainer.accelerator.wait_for_everyone()
    evaluations = _evaluated(config, model, questions, folder) if questions and trainer.is_world_process_zero() else ()
    if trainer.is_world_process_zero():
        replace(record, seconds=time.monotonic() - clock).write(folder / "run.json")
        write_report(folder)
    return Trained(model, folder, evaluations)


def record_of(config: RunConfig, started: str, command: str | None) -> RunRecord:
    """How a run is made, before it ends."""
    return RunRecord(
        config=resolved(config),
        versions={name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        commit=_commit(),
        seed=config.training.seed,
        hardware=hardware(),
        started=started,
        seconds=None,
        command=command,
    )


def examples(data: DataSet) -> list[Example]:
    """The problems that a data set names."""
    if isinstance(data, FileData):
        return load(data.path, data.format)[: data.limit]
    return data.task.make(data.num, data.split, data.seed)


def read_data(section: DataSection, data: DataSet, model: LatentReasoner, direct: bool = False) -> tuple[Encoded, ...]:
    """The samples of a data set as ``model`` reads them; says aloud how many were left out.

    Raises:
        ValueError: if nothing is left.
    """
    if model.tokenizer is None:
        raise ValueError("The student was saved without its tokenizer: its folder must hold tokenizer_config.json.")
    found = examples(data)
    if direct:
        found = [replace(example, steps=()) for example in found]
    encoded = encode_all(found, model.tokenizer, template_of(model), drop_last_step=section.drop_last_step, max_length=section.max_length)
    if encoded.dropped:
        print(f"{len(encoded.dropped)} of {len(found)} examples left out: {encoded.dropped[0][1]}, and the like", file=sys.stderr)
    if not encoded.samples:
        raise ValueError(f"No example is left of {len(found)}: every one is longer than data.max_length = {section.max_length}.")
    return encoded.samples


def evaluator_of(config: RunConfig, timed: int = 32) -> Evaluator:
    """The evaluator that the configuration describes."""
    section = config.evaluation
    return Evaluator(batch_size=section.batch_size, max_new_tokens=section.max_new_tokens, timed=timed, progress=config.training.progress)


def _evaluated(config: RunConfig, model: LatentReasoner, questions: Sequence[Encoded], folder: Path) -> tuple[EvaluationRecord, ...]:
    """Records of every mode that the configuration names and the student has learnt."""
    modes = [mode for mode in config.evaluation.modes if mode != "latent" or model.config.taught]
    return tuple(write_evaluation(evaluator_of(config), model, questions, mode, folder, "test") for mode in modes)


def write_evaluation(
    evaluator: Evaluator, model: LatentReasoner, samples: Sequence[Encoded], mode: Any, folder: Path, data_set: str
) -> EvaluationRecord:
    """Evaluate one mode, and write its record and answers."""
    record, said = evaluator.evaluate(model, samples, mode, data_set)
    name = f"evaluation_{Path(data_set).stem}_{mode}"
    write_atomic(folder / f"{name}.answers.txt", "".join(f"{text}\n".replace("\n", "\\n", text.count("\n")) for text in said))
    record = replace(record, answers=f"{name}.answers.txt")
    record.write(folder / f"{name}.json")
    return record


def _with_partners(config: RunConfig, samples: tuple[Encoded, ...]) -> tuple[Encoded, ...]:
    """The samples without the last one, if it would make a batch of its own in which a control finds no partner for it."""
    paired = isinstance(config.target.control, OtherSample | Shuffled) and config.training.task == "latent"
    if not paired or len(samples) % config.training.batch_size != 1:
        return samples
    print(f"1 of {len(samples)} examples left out: the control {config.target.control.kind} needs batches of 2 or more", file=sys.stderr)
    return samples[:-1]


def _trainer(config: RunConfig, model: LatentReasoner, samples: tuple[Encoded, ...], folder: Path) -> LatentTrainer:
    section = config.training
    trainer = LatentTrainer(
        model=model,
        args=training_arguments(section),
        train_dataset=list(samples),
        data_collator=partial(_collate, pad_id=pad_id(model)),
        callbacks=[SaveWhen(section.save_steps), WriteMetrics(folder / "metrics.jsonl")],
        step=step_of(config, model),
    )
    if config.data.validation is not None:
        validation = read_data(config.data, config.data.validation, model)[: config.evaluation.during_training]
        measure = _measure(config, validation)
        trainer.add_callback(EvaluateWhen(measure, section.eval_steps, trainer.log, section.stop_at_accuracy))
    return trainer


def _measure(config: RunConfig, validation: Sequence[Encoded]) -> Callable[[Any, int], dict[str, float]]:
    """What is measured during training: accuracy in the way of reasoning that is trained."""
    reasoning: Any = {"latent": "latent", "explicit": "cot", "direct": "direct"}[config.training.task]
    evaluator = replace(evaluator_of(config, timed=0), progress=False)

    def measure(student: Any, step: int) -> dict[str, float]:
        return {"validation_accuracy": evaluator.accuracy(student, validation, reasoning)}

    return measure


def step_of(config: RunConfig, model: LatentReasoner) -> Step:
    """The loss that the configuration asks for."""
    return config.distillation(model.geometry) if config.training.task == "latent" else explicit_step


def pad_id(model: LatentReasoner) -> int:
    """The id that fills the gaps of a batch; masks say where they are."""
    assert model.tokenizer is not None
    assert isinstance(model.tokenizer.pad_token_id, int)
    return model.tokenizer.pad_token_id


def _collate(samples: Sequence[Encoded], pad_id: int) -> dict[str, Batch]:
    return {"batch": collate(samples, pad_id)}


def _free_folder(config: RunConfig) -> Path:
    """The folder of the run, if it may be written to."""
    folder = Path(config.training.output_dir)
    if (folder / "run.json").is_file() and not config.training.overwrite:
        raise ValueError(f"{folder} already holds a run: choose another --training.output_dir, or say --training.overwrite true.")
    if config.model.name is not None and folder.resolve() in Path(config.model.name).resolve().parents:
        raise ValueError(f"{config.model.name} lies in {folder}, which the run would write over: choose another --training.output_dir.")
    return folder


def _clear(folder: Path) -> None:
    """Remove what an earlier run wrote there, since its checkpoints would pass for this one's; folders of others stay as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    if (folder / "run.json").is_file():
        for old in [path for pattern in WRITTEN for path in folder.glob(pattern)]:
            shutil.rmtree(old) if old.is_dir() else old.unlink()


def _commit() -> str | None:
    where = Path(__file__).resolve().parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None


def to_device(model: LatentReasoner) -> LatentReasoner:
    """The model on the GPU, where there is one."""
    model.to("cuda" if torch.cuda.is_available() else "cpu")  # pyright: ignore[reportArgumentType]
    return model


def hardware() -> str:
    """The device in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"
