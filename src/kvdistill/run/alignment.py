"""Alignment of a run's teachers: fitted before the first step, restored when a run resumes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kvdistill.align import Identity
from kvdistill.config import RunConfig
from kvdistill.models.checkpoint_integrity import first_line, same_weights
from kvdistill.pipeline import Distillation
from kvdistill.records.calibration import CalibrationRecord
from kvdistill.records.schema import RunRecord
from kvdistill.run.adapters import load_adapters
from kvdistill.run.calibration import Calibrator
from kvdistill.run.coverage import require_coverage
from kvdistill.run.folder import RunState
from kvdistill.run.gathering import SAMPLES, chosen_samples
from kvdistill.run.projection import ProjectorFit
from kvdistill.target.lift import LiftBridge
from kvdistill.target.lower import LowerBridge
from kvdistill.target.methods import Lift, Lower
from kvdistill.teacher.causal_lm import CausalLMTeacher
from kvdistill.text import Encoded
from kvdistill.training.checkpoint import load_extra_state
from kvdistill.training.ranks import Ranks
from kvdistill.training.stream import Stream
from kvdistill.training_step import TrainingStep


def align_teachers(
    config: RunConfig, step: TrainingStep, data: Any, checkpoint: Path | None, say: Callable[[str], None]
) -> CalibrationRecord | None:
    """Fit the adapters or projectors between teachers and student, or load those of ``bridge.adapters``.

    From a checkpoint they are restored.

    Args:
        config: the run's configuration.
        step: the training step; its bridge gets the adapters.
        data: the training data set.
        checkpoint: the checkpoint to resume from; None at the start of a run.
        say: prints a line.

    Returns:
        The report of the calibration, or that of the loaded adapters; None where there is neither.

    Raises:
        ValueError: if a teacher does not read the text, there is too little of it to fit an adapter, or the
            loaded adapters are of another pair.
    """
    if not isinstance(step, Distillation) or not isinstance(step.bridge, LowerBridge | LiftBridge):
        return None
    if checkpoint is not None:
        restore(step, checkpoint)
        return None
    method = config.bridge_method
    if isinstance(method, Lift) and method.projector == "trained":
        return None
    if isinstance(step.bridge, LowerBridge):
        require_copies(config, step)
    if isinstance(method, Lower) and method.adapters is not None:
        say(f"teachers: adapters of {method.adapters}; nothing is fitted")
        return load_adapters(config, step, Path(method.adapters))
    samples = chosen_samples(first_samples(data), config.training.seed)
    require_coverage(step.teachers, samples, say)
    if isinstance(step.bridge, LiftBridge):
        return ProjectorFit(step, Ranks.here(), say).run(samples)
    selectors = {teacher.name: config.teacher_section(teacher.name).layers for teacher in step.teachers}
    task = None
    if isinstance(method, Lower) and method.calibration_target == "task":
        task = method.task
    return Calibrator(step, selectors, Ranks.here(), say, task).run(samples)


def restore(step: Distillation, checkpoint: Path) -> None:
    """Load the step's state before Trainer does.

    A measured layer map and a fitted projector decide which parameters there are.

    Args:
        step: the training step; its bridge has adapters or projectors.
        checkpoint: the checkpoint to resume from.

    Raises:
        ValueError: if an adapter is missing or belongs to another teacher.
    """
    tensors, _ = load_extra_state(checkpoint)
    state = {name.removeprefix("step/"): value for name, value in tensors.items() if name.startswith("step/")}
    remedy = f"Put the old teacher back, or begin a new run from {checkpoint} (--model_name)."
    for teacher in step.teachers:
        # Checkpoints of a single lifted teacher may be older than its name in them.
        if isinstance(step.bridge, LowerBridge) and f"{teacher.name}/layers" not in state:
            raise ValueError(f"teachers.{teacher.name}: {checkpoint} holds no adapter for it. {remedy}")
    try:
        step.load_state(state)
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"{checkpoint}: an adapter does not fit its teacher ({first_line(error)}). {remedy}"
        ) from error


def require_copies(config: RunConfig, step: Distillation) -> None:
    """Refuse the adapter ``identity`` for a teacher that is no copy of the student.

    Args:
        config: the run's configuration.
        step: the training step, with the student at its starting weights.

    Raises:
        ValueError: naming the teacher.
    """
    for teacher in step.teachers:
        section = config.teacher_section(teacher.name)
        if not isinstance(section.adapter, Identity) or not isinstance(teacher, CausalLMTeacher):
            continue
        if not is_copy(step.student.backbone, teacher.model):
            raise ValueError(
                f"teachers.{teacher.name}: adapter identity takes the teacher's cache for the student's own, "
                f"and {teacher.source} has other weights than the student: set "
                f"teachers.{teacher.name}.adapter.kind to ridge."
            )


def is_copy(student: nn.Module, teacher: nn.Module) -> bool:
    """Whether every weight of a teacher is in the student, and the student has no trained adapters beside.

    Rows of added tokens, and low-rank adapters that are still zero, do not count.

    Args:
        student: the student's backbone, with or without low-rank adapters.
        teacher: the teacher's model.
    """
    ours, theirs = (
        {_unwrapped(name): value for name, value in model.named_parameters()} for model in (student, teacher)
    )
    if any("lora_B" in name and bool(ours[name].any()) for name in ours.keys() - theirs.keys()):
        return False
    for name, value in theirs.items():
        own = ours.get(name)
        if own is None or own.shape[1:] != value.shape[1:] or len(own) < len(value):
            return False
        if not torch.equal(own[: len(value)].to(value), value):
            return False
    return True


def _unwrapped(name: str) -> str:
    """Name of a parameter without what peft inserts around the layer."""
    return name.removeprefix("base_model.model.").replace(".token_adapter", "").replace(".base_layer", "")


def teachers_record(step: TrainingStep, before: RunRecord | None, start: RunState) -> dict[str, str]:
    """Fingerprints of the teachers; refuses to resume a run with others.

    Args:
        step: the training step.
        before: the record of the run so far; None at its start.
        start: the state of the run folder.

    Returns:
        By short name; the student's own teacher mode is left out.

    Raises:
        ValueError: naming the teacher whose weights have changed.
    """
    separate = [teacher for teacher in step.teachers if isinstance(teacher, CausalLMTeacher)]
    found = {teacher.name: teacher.fingerprint() for teacher in separate}
    if start.checkpoint is None or before is None or before.teachers is None:
        return found
    for name, fingerprint in found.items():
        if not same_weights(before.teachers.get(name, fingerprint), fingerprint):
            raise ValueError(
                f"teachers.{name}: its weights are not those that {start.folder} was begun with. Put the old "
                f"teacher back, or begin a new run from {start.checkpoint} (--model_name)."
            )
    return found


def first_samples(data: Any) -> Sequence[Encoded]:
    """The samples that calibration chooses from: all of a data set, the first of a stream."""
    if isinstance(data, Stream):
        samples, _ = data.read(None, SAMPLES)
        return samples
    return data
