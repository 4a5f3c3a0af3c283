"""Projects in a path with a space: one trains for real and quickly, one only writes down what it is asked
for.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pico_project import CLERK, Project, copied, put
from pico_python import quick_python


@pytest.fixture
def clerk(tmp_path: Path) -> Project:
    """A project whose Python writes down what it is asked for."""
    return copied(tmp_path / "quickly check", put(tmp_path / "clerk", CLERK))


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
