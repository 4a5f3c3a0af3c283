"""Pointer chasing, generated: who holds the parcel after several hand-overs?"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kvdistill.data.split import (
    Filler,
    Split,
    Trace,
    both_traces,
    depth_at,
    depth_range,
    step_texts,
    style_of,
    window,
)
from kvdistill.data.template import ANSWER_PROMPT
from kvdistill.text import Example

NAMES = (
    "Ann",
    "Bob",
    "Cid",
    "Dan",
    "Eve",
    "Fay",
    "Gus",
    "Hal",
    "Ida",
    "Jon",
    "Kim",
    "Lee",
    "Mia",
    "Ned",
    "Oda",
    "Pam",
    "Ray",
    "Sue",
    "Tom",
    "Uma",
)

_GOLDEN = (math.sqrt(5) - 1) / 2
"""Golden ratio, about 0.618."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A parcel is passed around a circle of ``names`` people; who holds it after ``steps`` hand-overs?

    With a range of ``steps`` the number of hand-overs differs from question to question, in equal shares in
    each split and style (mixed depth).

    The question lists all hand-overs in random order, four words each, then the start and the number of
    steps: ``Bob to Eve . Eve to Ann . Ann to Bob . start Eve 2 hands ?``. Its cue, ``briefly`` or ``fully``,
    asks for a style; the student's cue is always ``briefly``. A terse step is one word (``Ann``), a verbose
    step four (``then Eve hands Ann``), or what ``filler`` makes of it; words are what ``str.split`` gives.
    The hand-overs form one cycle and ``steps`` is smaller than ``names``, so that the answer is never the
    start; chance is ``1 / (names - 1)``.

    A problem is a cycle with a start, that is an order of the names. The ``names!`` problems are divided
    8:1:1 among the splits by their place in a fixed scrambled enumeration. The same ``num``, ``split`` and
    ``seed`` give the same problems in the same order for every ``trace``, so ``dataclasses.replace(chain,
    trace="verbose")`` makes the verbose twin of each terse example.

    With ``steps`` above ``names / 2`` the path backwards from the start is the shorter one.

    Source: ours.
    """

    kind: Literal["chain"] = "chain"
    names: int = 8
    steps: int | tuple[int, int] = 4
    """Hand-overs of a question, or the least and the most."""
    trace: Trace = "terse"
    filler: Filler = "giver"
    """What the words of a verbose step before its result are."""
    pad: bool = False
    """Continue each trace to the most steps, repeating the holder, so that step i is the same everywhere."""
    stop: bool = False
    """End each step with a full stop."""
    stride: int = 1
    """Hand-overs of a step: a trace names every so many-th holder, and the last one."""

    def __post_init__(self) -> None:
        if not 3 <= self.names <= len(NAMES):
            raise ValueError(f"Chain.names is {self.names}. Choose a number from 3 to {len(NAMES)}.")
        least, most = self.depths
        if not 1 <= least <= most < self.names:
            raise ValueError(
                f"Chain.steps is {self.steps} with {self.names} names. Choose a number from 1 to "
                f"{self.names - 1}, or two in ascending order."
            )
        if self.stride < 1:
            raise ValueError(f"Chain.stride is {self.stride}. Choose 1 or more.")

    @property
    def depths(self) -> tuple[int, int]:
        """The least and the most hand-overs of a question."""
        return depth_range(self.steps)

    @property
    def sentence(self) -> str:
        """The task in one sentence."""
        least, most = self.depths
        hands = f"{most}" if least == most else f"{least} to {most}"
        return f"A parcel goes around a circle of {self.names} people: who holds it after {hands} hand-overs?"

    def capacity(self, split: Split) -> int:
        """Number of different problems in a split."""
        return len(window(math.factorial(self.names), split))

    def words(self) -> tuple[str, ...]:
        """The vocabulary of questions, cues, steps, answers and the default answer prompt, for any ``steps``.

        Returns:
            All words, to be given to ``word_tokenizer``.
        """
        counts = (str(count) for count in range(1, self.names))
        return (
            *NAMES[: self.names],
            "to",
            ".",
            "start",
            *counts,
            "then",
            "hands",
            "?",
            "briefly",
            "fully",
            *ANSWER_PROMPT.split(),
        )

    def make(self, num: int, split: Split, seed: int) -> list[Example]:
        """Generate examples.

        Args:
            num: number of different problems.
            split: the split that they are drawn from; splits do not overlap.
            seed: decides problems and order.

        Returns:
            ``num`` examples, the same for the same arguments.

        Raises:
            ValueError: if the split holds fewer than ``num`` problems.
        """
        if num > self.capacity(split):
            raise ValueError(
                f"Chain has {self.capacity(split)} different {split} problems with {self.names} names, "
                f"fewer than the {num} asked for. "
                "Ask for fewer, or raise Chain.names."
            )
        rng = random.Random(f"chain/{split}/{seed}")
        places = rng.sample(window(math.factorial(self.names), split), num)
        return [
            self._example(self._order(place), rng, f"chain-{split}-{seed}-{i}", i)
            for i, place in enumerate(places)
        ]

    def _order(self, place: int) -> list[str]:
        """Problem ``place`` of the scrambled enumeration: the names in the order of the hand-overs."""
        total = math.factorial(self.names)
        # A stride coprime to the total visits every rank once; near the golden ratio it spreads each split
        # evenly over all ranks.
        stride = next(s for s in range(int(total * _GOLDEN), 2 * total) if math.gcd(s, total) == 1)
        rank, left = place * stride % total, list(NAMES[: self.names])
        order = []
        # The rank in the factorial number system: each digit picks one of the remaining names.
        for remaining in range(self.names, 0, -1):
            rank, digit = divmod(rank, remaining)
            order.append(left.pop(digit))
        return order

    def _example(self, order: Sequence[str], rng: random.Random, sample_id: str, index: int) -> Example:
        # All hand-overs of the cycle; those on the path are kept in order before the question is shuffled.
        pairs = list(zip(order, (*order[1:], order[0]), strict=True))
        depth = depth_at(index, self.depths)
        path = pairs[:depth]
        rng.shuffle(pairs)
        style = style_of(self.trace, index)
        handed = " ".join(f"{giver} to {taker} ." for giver, taker in pairs)
        answer = path[-1][1]
        if self.pad:
            path += [(answer, answer)] * (self.depths[1] - depth)
        # One step of several hand-overs goes from its first giver to its last taker.
        moves = [path[start : start + self.stride] for start in range(0, len(path), self.stride)]
        steps = []
        for move in moves:
            giver, taker = move[0][0], move[-1][1]
            steps.append(step_texts(taker, self.filler, ("then", giver, "hands"), rng, self.stop))
        return Example(
            question=f"{handed} start {order[0]} {depth} hands ?",
            steps=tuple(step[style] for step in steps),
            answer=answer,
            sample_id=sample_id,
            teacher_cue=style,
            student_cue="briefly",
            depth=depth,
            traces=both_traces(steps),
        )
