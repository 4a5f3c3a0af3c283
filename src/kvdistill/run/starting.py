"""The frozen starting student of a run, whose keys are the vectors of questions: made, written, restored."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kvdistill.latent.starting import StartingStudent
from kvdistill.pipeline import Distillation

START = "starting_student.safetensors"
"""Name of the file in a run folder: the weights that training changes, up to the layer that is read."""


def keep_start(step: Distillation) -> StartingStudent:
    """Let the questions' vectors come from the student as it is now.

    Args:
        step: The training step, with the student at its starting weights and on its device.

    Returns:
        The frozen copy, which is also the step's.
    """
    read = step.bridge.question_read
    assert read is not None
    step.start = StartingStudent(step.student, read)
    return step.start


def write_start(start: StartingStudent, folder: Path) -> None:
    """Write what a resumed run needs of the starting student.

    Args:
        start: The frozen copy.
        folder: The run folder.
    """
    save_file({name: each.cpu().contiguous() for name, each in start.state().items()}, folder / START)


def restore_start(step: Distillation, folder: Path) -> None:
    """Let the questions' vectors come from the student that a run started from.

    Args:
        step: The training step of the resumed run.
        folder: The run folder.

    Raises:
        ValueError: if the file is missing or damaged, or of another student.
    """
    path = folder / START
    try:
        keep_start(step).load_state(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path} is not the starting student of this run ({error}), and fusion.query start reads its "
            "keys. Put the file back, or begin a new run."
        ) from error
