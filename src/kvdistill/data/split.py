"""What the made-up tasks share: splits that cannot overlap, and the style of a trace."""

from hashlib import blake2b
from typing import Literal

Split = Literal["train", "validation", "test"]
Trace = Literal["terse", "verbose", "mixed"]
"""``mixed`` takes turns: terse, verbose, terse, ..."""
Style = Literal["briefly", "fully"]
"""The cue of a question, which says what kind of trace is asked for."""

_TENTHS: dict[str, tuple[int, int]] = {"train": (0, 8), "validation": (8, 9), "test": (9, 10)}


def window(total: int, split: Split) -> range:
    """Indices of a split among ``total`` enumerated problems: the first eight tenths, the ninth, the last."""
    first, last = _TENTHS[split]
    return range(total * first // 10, total * last // 10)


def belongs(problem: str, split: Split) -> bool:
    """Whether a problem that cannot be enumerated falls to a split: its hash decides, in the same shares."""
    first, last = _TENTHS[split]
    tenth = int.from_bytes(blake2b(problem.encode(), digest_size=8).digest(), "big") % 10
    return first <= tenth < last


def style_of(trace: Trace, index: int) -> Style:
    """The style of the example at place ``index`` of a set."""
    verbose = index % 2 == 1 if trace == "mixed" else trace == "verbose"
    return "fully" if verbose else "briefly"
