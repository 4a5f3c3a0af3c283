"""A check of the doctor and what it found."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

State = Literal["ok", "note", "problem"]
GIB = 2**30
WEIGHTS_7B = 7.6e9 * 4
"""Bytes of a model such as Qwen2.5-7B in float32."""


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    what: str
    state: State
    found: str
    advice: str = ""
    lost: str = ""
    """What would not work here, and why; only where the state is not ok."""


class Check(NamedTuple):
    """One thing to look at."""

    look: Callable[[str], Finding]
    """Takes the check's name."""
    lost: str = ""
    """What would not work where the finding is not ok, and why."""


def size_text(num_bytes: int | float) -> str:
    """Bytes as GiB."""
    return f"{num_bytes / GIB:.1f} GiB"


def nearest(folder: Path) -> Path:
    """The folder, or the closest of those above it that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())
