"""A student's base model and two teachers, shared by the tests of ``kvdistill align``."""

from pathlib import Path

import pytest

from pico_teachers import run, save_teachers


@pytest.fixture(scope="session")
def models(session_tmp: Path) -> dict[str, Path]:
    """Folders by name; see ``save_teachers``."""
    folder = session_tmp / "align"
    folder.mkdir()
    return save_teachers(folder)


@pytest.fixture
def options(models: dict[str, Path], tmp_path: Path) -> list[str]:
    """The command line with a configuration without teachers."""
    path = tmp_path / "options.json"
    path.write_text(run(models["base"], tmp_path / "run", {}).model_dump_json())
    return ["--config", str(path)]
