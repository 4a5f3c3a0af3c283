"""Splits without overlap and trace styles, shared by the generated tasks."""

from hashlib import blake2b
from typing import Literal

Split = Literal["train", "validation", "test"]
Trace = Literal["terse", "verbose", "mixed"]
"""Style of the chains of thought; ``mixed`` alternates: terse, verbose, terse, ..."""
Style = Literal["briefly", "fully"]
"""Cue of a question: asks for a terse or a verbose trace."""

_STYLES: dict[Trace, tuple[Style, Style]] = {
    "terse": ("briefly", "briefly"),
    "verbose": ("fully", "fully"),
    "mixed": ("briefly", "fully"),
}
"""Styles of the examples at even and at odd indices."""
_TENTHS: dict[str, tuple[int, int]] = {"train": (0, 8), "validation": (8, 9), "test": (9, 10)}


def window(total: int, split: Split) -> range:
    """Indices of a split among ``total`` enumerated problems: 8/10 train, 1/10 validation, 1/10 test."""
    first, last = _TENTHS[split]
    return range(total * first // 10, total * last // 10)


def belongs(problem: str, split: Split) -> bool:
    """Whether a problem that cannot be enumerated is in a split, by its hash; shares as in ``window``."""
    first, last = _TENTHS[split]
    tenth = int.from_bytes(blake2b(problem.encode(), digest_size=8).digest(), "big") % 10
    return first <= tenth < last


def style_of(trace: Trace, index: int) -> Style:
    """The style of example ``index`` of a set, counted from 0."""
    return _STYLES[trace][index % 2]
