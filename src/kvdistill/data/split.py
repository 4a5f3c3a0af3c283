"""Splits without overlap, trace styles and steps, shared by the generated tasks."""

import random
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Literal

from kvdistill.text import NamedTrace

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
Filler = Literal["giver", "repeated", "varied", "none"]
"""Words before the result of a verbose step: what happens (``then Eve hands``), ``then then then``, three
words drawn from ``VARIED``, or none.
"""
VARIED: tuple[str, ...] = ("then", "hands", "to", "start")

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


def depth_range(steps: int | tuple[int, int]) -> tuple[int, int]:
    """The least and the most steps of a question.

    Args:
        steps: one number for all questions, or the least and the most.
    """
    return (steps, steps) if isinstance(steps, int) else steps


def depth_at(index: int, depths: tuple[int, int]) -> int:
    """Steps of example ``index`` of a set: each depth is equally frequent in each style.

    Args:
        index: place in the set, from 0.
        depths: the least and the most steps.
    """
    least, most = depths
    # Styles alternate with the index, so depths change with every second one.
    return least + index // 2 % (most - least + 1)


def step_texts(
    result: str, filler: Filler, giver: Sequence[str], rng: random.Random, stop: bool = False
) -> dict[Style, str]:
    """One step of a trace in each style.

    Args:
        result: the step's result, its last word; a terse step (``briefly``) is the result alone.
        filler: the words before the result of a verbose step.
        giver: those of the filler ``giver``.
        rng: draws varied fillers, whatever the style, so that twins have the same questions.
        stop: whether a full stop follows.
    """
    fillers: dict[Filler, Sequence[str]] = {"giver": giver, "repeated": ["then"] * 3, "none": ()}
    if filler == "varied":
        fillers["varied"] = rng.choices(VARIED, k=3)
    end = [result, "."] if stop else [result]
    return {"briefly": " ".join(end), "fully": " ".join([*fillers[filler], *end])}


def both_traces(steps: Sequence[Mapping[Style, str]]) -> tuple[NamedTrace, NamedTrace]:
    """The terse and the verbose trace of a problem, each with the cue that asks for it.

    Args:
        steps: each step in both styles.
    """
    terse = NamedTrace("terse", tuple(step["briefly"] for step in steps), "briefly")
    return terse, NamedTrace("verbose", tuple(step["fully"] for step in steps), "fully")
