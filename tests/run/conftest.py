"""Models on disk that the tests of students share."""

from pathlib import Path

import pytest
import torch

from kvdistill.run.student import build_student
from pico_students import config, save_base


@pytest.fixture(scope="session")
def base_folder(session_tmp: Path) -> Path:
    """A model as it comes from the hub: a backbone with its tokenizer, nothing of this project."""
    return save_base(session_tmp / "base")


@pytest.fixture(scope="session")
def saved(session_tmp: Path) -> Path:
    """A saved student of 3 slots and 2 passes, all weights trained."""
    folder = session_tmp / "student"
    torch.manual_seed(3)
    build_student(config()).save_pretrained(folder)
    return folder
