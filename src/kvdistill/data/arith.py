"""Sums in words: a running total that goes up and down."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kvdistill.data.chain import NAMES
from kvdistill.data.split import Split, Trace, belongs, style_of
from kvdistill.text import Example

THINGS = ("apples", "books", "coins", "eggs", "marbles", "pens", "shells", "stamps")

_SENTENCES = {
    "+": ("{name} buys {n} more.", "{name} finds {n} more.", "{name} is given {n} more."),
    "-": ("{name} gives {n} away.", "{name} loses {n}.", "{name} sells {n}."),
    "*": ("Then {name} has {n} times as many.",),
}

_MAX_FACTOR = 5
_PATIENCE = 2000

Operation = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Arith:
    """Word problems in GSM8K's form: ``steps`` additions, subtractions and multiplications of a running
    total.

    The answer is drawn first, evenly from 1 to ``largest``, and the way to it afterwards: no number of the
    question and no earlier total equals the answer, and with two steps or more the total goes both up and
    down by sums, so that adding up all numbers of the question fails too. Chance is ``1 / largest``. A terse
    step is ``<<3+4=7>>``, a verbose one ``Now Ann has 3+4 = <<3+4=7>>7 apples.``; the question's cue
    (``briefly``, ``fully``) says which is asked, and the student's is always ``briefly``.

    A problem is its numbers and operations; its hash decides the split, and no problem comes twice in a set.
    Names and things vary freely. As with ``Chain``, another ``trace`` gives the same problems in the same
    order.

    Source: ours, in the form of https://arxiv.org/abs/2110.14168.
    """

    kind: Literal["arith"] = "arith"
    steps: int = 3
    largest: int = 99
    """No number and no total exceeds it."""
    trace: Trace = "terse"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Arith.steps is {self.steps}. Choose 1 or more.")
        if self.largest < 4 * (self.steps + 1):
            raise ValueError(
                f"Arith.largest is {self.largest}, too small for {self.steps} steps over different totals. "
                f"Choose {4 * (self.steps + 1)} or more."
            )

    @property
    def sentence(self) -> str:
        """The task in one sentence."""
        return f"A running total goes up and down {self.steps} times: what is it in the end?"

    def words(self) -> tuple[str, ...]:
        """Refuse: sums are no small closed set of words.

        Raises:
            ValueError: always; it says what to do instead.
        """
        raise ValueError(
            "Arith has no word list, since its sums are too many words. Name a tokenizer that splits words, "
            "such as GPT-2's."
        )

    def make(self, num: int, split: Split, seed: int) -> list[Example]:
        """``num`` different problems of a split, in an order that ``seed`` decides.

        Raises:
            ValueError: if the split has no more new problems to give.
        """
        rng = random.Random(f"arith/{split}/{seed}")
        seen: set[str] = set()
        examples: list[Example] = []
        fruitless = 0
        while len(examples) < num:
            start, operations = self._problem(rng)
            problem = f"{start}{''.join(f'{sign}{n}' for sign, n in operations)}"
            if problem in seen or not belongs(problem, split):
                fruitless += 1
                self._give_up(fruitless, len(examples), split)
                continue
            fruitless = 0
            seen.add(problem)
            examples.append(
                self._example(start, operations, rng, f"arith-{split}-{seed}-{len(examples)}", len(examples))
            )
        return examples

    def _give_up(self, fruitless: int, made: int, split: Split) -> None:
        if fruitless > _PATIENCE:
            raise ValueError(
                f"Arith found {made} different {split} problems with {self.steps} steps up to "
                f"{self.largest}, then no new one in "
                f"{_PATIENCE} draws. Ask for at most {made}, or raise Arith.largest or Arith.steps."
            )

    def _problem(self, rng: random.Random) -> tuple[int, list[Operation]]:
        answer = rng.randint(1, self.largest)
        while True:
            totals = [rng.randint(1, self.largest) for _ in range(self.steps)]
            factors = [rng.randint(2, _MAX_FACTOR) if rng.random() < 0.25 else 1 for _ in range(self.steps)]
            operations: list[Operation] = []
            for i, factor in enumerate(factors[:-1]):
                if factor > 1 and totals[i] * factor <= self.largest:
                    totals[i + 1] = totals[i] * factor
                    operations.append(("*", factor))
                else:
                    operations.append(_difference(totals[i], totals[i + 1]))
            operations.append(_difference(totals[-1], answer))
            if self._is_sound([*totals, answer], operations):
                return totals[0], operations

    def _is_sound(self, totals: Sequence[int], operations: Sequence[Operation]) -> bool:
        signs = {sign for sign, _ in operations}
        both = self.steps == 1 or {"+", "-"} <= signs
        return both and len(set(totals)) == len(totals) and all(n != totals[-1] for _, n in operations)

    def _example(
        self, start: int, operations: Sequence[Operation], rng: random.Random, sample_id: str, index: int
    ) -> Example:
        name, thing = rng.choice(NAMES), rng.choice(THINGS)
        style = style_of(self.trace, index)
        told = [rng.choice(_SENTENCES[sign]).format(name=name, n=n) for sign, n in operations]
        steps, total = [], start
        for sign, n in operations:
            before, total = total, {"+": total + n, "-": total - n, "*": total * n}[sign]
            sum_text = f"{before}{sign}{n}"
            terse = f"<<{sum_text}={total}>>"
            steps.append(
                terse if style == "briefly" else f"Now {name} has {sum_text} = {terse}{total} {thing}."
            )
        question = f"{name} has {start} {thing}. {' '.join(told)} How many {thing} does {name} have now?"
        return Example(question, tuple(steps), str(total), sample_id, cue=style, student_cue="briefly")


def _difference(before: int, after: int) -> Operation:
    return ("+", after - before) if after > before else ("-", before - after)
