"""Projects in a path with a space: one trains for real and quickly, one only writes down what it is asked
for.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pico_project import CLERK, Project, copied, put
from pico_python import quick_python

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clerk(tmp_path: Path) -> Project:
    """A project whose Python writes down what it is asked for."""
    return copied(tmp_path / "quickly check", put(tmp_path / "clerk", CLERK))


@pytest.fixture
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A project that holds the script of the test file (``test_NAME.py``: ``NAME.py``), in a path with a
    space.
    """
    root = tmp_path / "quickly check"
    (root / "scripts").mkdir(parents=True)
    for name in ("_reexec.py", f"{request.path.stem.removeprefix('test_')}.py"):
        shutil.copy(ROOT / "scripts" / name, root / "scripts")
    return root


@pytest.fixture(scope="session")
def python(session_tmp: Path) -> Iterator[Path]:
    """A Python that has the libraries loaded, and no way to the hub."""
    with quick_python(
        session_tmp / "quick python", HF_HUB_OFFLINE="1", HF_HOME=str(session_tmp / "home")
    ) as program:
        yield program


@pytest.fixture(scope="session")
def project(session_tmp: Path, python: Path) -> Project:
    """A project that trains for real, shared by the tests of this folder."""
    return copied(session_tmp / "quickly check", python)
