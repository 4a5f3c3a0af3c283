"""The types of ``kvdistill doctor``: a check and its finding."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

State = Literal["ok", "note", "problem"]
GIB = 2**30
WEIGHTS_7B = 7.6e9 * 4
"""Bytes of the weights of a model such as Qwen2.5-7B in float32."""


@dataclass(frozen=True)
class Finding:
    """The result of a check: one row of the table."""

    what: str
    """Name of the check."""
    state: State
    """``ok``, ``note`` (a limitation) or ``problem`` (has to be fixed)."""
    found: str
    advice: str = ""
    """What to do; printed where the state is not ok."""
    lost: str = ""
    """What would not work here, and why; only where the state is not ok."""


class Check(NamedTuple):
    """One check: a function, and what is lost where it fails."""

    look: Callable[[str], Finding]
    """Takes the name of the check."""
    lost: str = ""
    """What would not work where the finding is not ok, and why."""


def ok_if(fine: object, otherwise: State = "note") -> State:
    """The state of a finding: ``ok`` if ``fine`` is true, else ``otherwise``."""
    if fine:
        return "ok"
    return otherwise


def size_text(num_bytes: int | float) -> str:
    """A number of bytes in GiB, with its unit."""
    return f"{num_bytes / GIB:.1f} GiB"


def nearest(folder: Path) -> Path:
    """The folder, or its closest parent that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())
