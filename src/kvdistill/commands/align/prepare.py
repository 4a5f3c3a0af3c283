"""A run's student, teachers and training samples, aligned as before its first step."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import set_seed

from kvdistill.config import RunConfig
from kvdistill.pipeline import Distillation
from kvdistill.records.calibration import CalibrationRecord
from kvdistill.run.alignment import align_teachers
from kvdistill.run.loading import training_data
from kvdistill.run.preparation import prepare
from kvdistill.run.samples import require_files, samples_of
from kvdistill.run.step import step_model
from kvdistill.run.student import starting_student, to_device
from kvdistill.target.methods import Lower
from kvdistill.training.ranks import Ranks


@dataclass(frozen=True)
class Aligned:
    """The training step of a run after its teachers were aligned."""

    step: Distillation
    data: Any
    """The training data set."""
    record: CalibrationRecord


def align(config: RunConfig, folder: Path, say: Callable[[str], None]) -> Aligned:
    """Do what a run with this configuration does before its first step.

    Args:
        config: the run's configuration.
        folder: where rows of the data that cannot be used are written.
        say: prints a line.

    Returns:
        The step with fitted or loaded adapters, and their report.

    Raises:
        ValueError: if the configuration aligns no separate teachers, or as a run would.
    """
    require_separate_teachers(config)
    require_files(config.data)
    prepare(config, Ranks(), say)
    set_seed(config.training.seed)
    student = to_device(starting_student(config))
    samples = samples_of(config, student, folder)
    data, _ = training_data(config, samples, Ranks())
    step = step_model(config, student)
    record = align_teachers(config, step, data, None, say)
    assert isinstance(step, Distillation)
    assert record is not None
    return Aligned(step, data, record)


def require_separate_teachers(config: RunConfig) -> None:
    """Refuse a configuration in which no teacher's cache is aligned with the student's.

    Args:
        config: the run's configuration.

    Raises:
        ValueError: with what to set.
    """
    live = list(config.live_teachers)
    if not live:
        raise ValueError(
            "The configuration has no separate teacher with a weight above 0, so there is nothing to align. "
            "Add one: --teachers.NAME.kind live --teachers.NAME.name FOLDER --bridge.kind lower."
        )
    if not config.reads_teachers:
        raise ValueError(
            "This run compares no caches. Set --training.task latent, and give "
            "loss.kv_weight a value above 0."
        )
    if not isinstance(config.bridge_method, Lower):
        raise ValueError(
            f"bridge.kind is {config.bridge_method.kind}, which maps the student's cache to "
            f"the teacher {live[0]} and fits no adapter. Set --bridge.kind lower to align the teachers' "
            "caches."
        )
