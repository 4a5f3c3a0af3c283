"""A student's base model and two teachers, shared by the tests of ``kvdistill align``."""

from pathlib import Path

import pytest

from pico_teachers import save_teachers


@pytest.fixture(scope="session")
def models(session_tmp: Path) -> dict[str, Path]:
    """Folders by name; see ``save_teachers``."""
    folder = session_tmp / "align"
    folder.mkdir()
    return save_teachers(folder)
