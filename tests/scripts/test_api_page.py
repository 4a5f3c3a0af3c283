"""The API page: the committed one is current, and every kind of public name has its form."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "api_page.py"
INIT = '''"""Folder of ``shapes``."""

from kvdistill.shapes.square import LIMIT, Square, area

__all__ = ["Square", "area", "LIMIT"]
'''
MODULE = '''"""Squares."""

from kvdistill.shapes.base import Shape

LIMIT = 3
"""Largest side."""


class Square(Shape):
    """A square.

    Not in the page.
    """

    side: int = 1
    """Length, in
    cells."""

    @property
    def corners(self) -> int:
        """Always four."""
        return 4

    def silent(self) -> None:
        pass


def area(square: Square, /, *more: int, scale: float = 1.0, **rest: str) -> tuple[int, "str"]:
    """Area of a square, ``a
    - b``.

    Args:
        square: which one,
            if any.
        more: others.

    Returns:
        The area in cells.
    """
'''
BASE = '''"""Base."""


class Shape:
    """A shape."""

    color: str
    """Its color."""
    _hidden: int = 0
'''
ROOT_INIT = '''"""The package."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvdistill.shapes.square import Square

__all__ = ["Square"]
'''
EXPECTED = """
## `kvdistill`

The package.

### Square

See [`kvdistill.shapes`](#kvdistillshapes).

## `kvdistill.shapes`

Folder of `shapes`.

### area

```python
area(square: Square, /, *more: int, scale: float = 1.0, **rest: str) -> tuple[int, 'str']
```

Area of a square, `a - b`.

Args:

- `square`: which one, if any.
- `more`: others.

Returns:

The area in cells.

Defined in `kvdistill.shapes.square`.

### LIMIT

```python
LIMIT = 3
```

Largest side.

Defined in `kvdistill.shapes.square`.

### Square

```python
class Square(color: str, side: int = 1)
```

A square.

Defined in `kvdistill.shapes.square`.

- `color`: Its color.
- `side`: Length, in cells.

#### Square.corners

```python
corners: int
```

Always four.
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A package of two folders; one name is public in both."""
    files = {"__init__": ROOT_INIT, "shapes/__init__": INIT, "shapes/square": MODULE, "shapes/base": BASE}
    for name, text in files.items():
        path = tmp_path / "kvdistill" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def written(*arguments: str, output: Path) -> str:
    command = [sys.executable, str(SCRIPT), "--output", str(output), *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return output.read_text(encoding="utf-8")


def test_the_committed_page_is_current(tmp_path: Path) -> None:
    committed = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert written(output=tmp_path / "api.md") == committed, "docs/api.md is out of date: run make api"
    assert "### RKV\n" in committed and "### KVLoss\n" in committed


def test_every_kind_of_name_has_its_form(source: Path) -> None:
    text = written("--source", str(source), output=source / "api.md")
    assert text.partition("not this page.\n")[2] == EXPECTED


def test_a_name_without_definition_is_refused(source: Path) -> None:
    init = source / "kvdistill" / "shapes" / "__init__.py"
    init.write_text(INIT.replace('"LIMIT"]', '"LIMIT", "Circle"]'), encoding="utf-8")
    page = runpy.run_path(str(SCRIPT))["page"]
    with pytest.raises(SystemExit, match=r"kvdistill\.shapes: Circle is in __all__, but neither defined nor"):
        page(source)
