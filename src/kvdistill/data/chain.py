"""Who holds the parcel: a task whose chain of thought is known and cannot be guessed."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kvdistill.data.split import Split, Trace, style_of, window
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


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A parcel goes round a circle of ``names`` people; who holds it after ``steps`` hand-overs?

    The question lists the hand-overs in random order, four words each, then the start and the count; its cue
    says which style is asked for: ``Bob to Eve . Eve to Ann . Ann to Bob . start Eve 2 hands ?`` and
    ``briefly``. The student's cue is always ``briefly``. The hand-overs form one cycle and are fewer than the
    names, so that the answer is never the start; chance is ``1 / (names - 1)``. A terse step is one word
    (``Ann``), a verbose step four (``then Eve hands Ann``). All counts are words, as ``str.split`` makes
    them.

    A problem is a cycle and a start, which is an order of the names: ``names!`` problems, shared out 8:1:1 to
    the splits by their place in a fixed scrambled enumeration. The same ``num``, ``split`` and ``seed`` give
    the same problems in the same order whatever ``trace`` is, so ``dataclasses.replace(chain,
    trace="verbose")`` makes the verbose twin of each terse example.

    With ``steps`` above ``names / 2`` the way backwards from the start is the shorter one.

    Source: ours.
    """

    kind: Literal["chain"] = "chain"
    names: int = 8
    steps: int = 4
    trace: Trace = "terse"

    def __post_init__(self) -> None:
        if not 3 <= self.names <= len(NAMES):
            raise ValueError(f"Chain.names is {self.names}. Choose a number from 3 to {len(NAMES)}.")
        if not 1 <= self.steps < self.names:
            raise ValueError(
                f"Chain.steps is {self.steps} with {self.names} names. Choose a number from 1 to "
                f"{self.names - 1}."
            )

    @property
    def sentence(self) -> str:
        """The task in one sentence."""
        return (
            f"A parcel goes round a circle of {self.names} people: who holds it after {self.steps} "
            "hand-overs?"
        )

    def capacity(self, split: Split) -> int:
        """Number of different problems of a split."""
        return len(window(math.factorial(self.names), split))

    def words(self) -> tuple[str, ...]:
        """Every word of every question, cue, step, default answer prompt and answer with up to ``names - 1``
        hand-overs.
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
        """``num`` different problems of a split, in an order that ``seed`` decides.

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
        """The names in the order in which they hold the parcel: problem ``place`` of the scrambled
        enumeration.
        """
        total = math.factorial(self.names)
        # A stride without common factor visits every rank once, and near the golden ratio it spreads each
        # split over all of them.
        stride = next(s for s in range(int(total * _GOLDEN), 2 * total) if math.gcd(s, total) == 1)
        rank, left = place * stride % total, list(NAMES[: self.names])
        order = []
        for remaining in range(self.names, 0, -1):
            rank, digit = divmod(rank, remaining)
            order.append(left.pop(digit))
        return order

    def _example(self, order: Sequence[str], rng: random.Random, sample_id: str, index: int) -> Example:
        pairs = list(zip(order, (*order[1:], order[0]), strict=True))
        path = pairs[: self.steps]
        rng.shuffle(pairs)
        style = style_of(self.trace, index)
        handed = " ".join(f"{giver} to {taker} ." for giver, taker in pairs)
        return Example(
            question=f"{handed} start {order[0]} {self.steps} hands ?",
            steps=tuple(
                taker if style == "briefly" else f"then {giver} hands {taker}" for giver, taker in path
            ),
            answer=path[-1][1],
            sample_id=sample_id,
            cue=style,
            student_cue="briefly",
        )
