"""Arithmetic word problems, generated in the form of GSM8K: a running total over several steps."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kvdistill.data.chain import NAMES
from kvdistill.data.split import Split, Style, Trace, belongs, both_traces, style_of
from kvdistill.text import Example

THINGS = ("apples", "books", "coins", "eggs", "marbles", "pens", "shells", "stamps")

_SENTENCES = {
    "+": ("{name} buys {n} more.", "{name} finds {n} more.", "{name} is given {n} more."),
    "-": ("{name} gives {n} away.", "{name} loses {n}.", "{name} sells {n}."),
    "*": ("Then {name} has {n} times as many.",),
}

_MAX_FACTOR = 5
_PATIENCE = 2000
"""Draws without a new problem after which a split counts as exhausted."""

Operation = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Arith:
    """Word problems in GSM8K's form: ``steps`` additions, subtractions and multiplications of a running
    total.

    The answer is drawn first, uniformly from 1 to ``largest``, then the steps that lead to it. No number of
    the question and no earlier total equals the answer, and with two steps or more there is an addition and a
    subtraction, so that the sum of all numbers is not the answer either. Chance is ``1 / largest``. A terse
    step is ``<<3+4=7>>``, a verbose one ``Now Ann has 3+4 = <<3+4=7>>7 apples.``; the question's cue
    (``briefly``, ``fully``) asks for one of them, and the student's is always ``briefly``.

    A problem is identified by its numbers and operations: their hash decides the split, and no problem occurs
    twice in a set. Names and things are drawn independently. As with ``Chain``, another ``trace`` gives the
    same problems in the same order.

    Source: ours, in the form of https://arxiv.org/abs/2110.14168.
    """

    kind: Literal["arith"] = "arith"
    steps: int = 3
    largest: int = 99
    """Upper limit of all numbers and totals."""
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
        """Not available: the numbers do not form a small closed vocabulary.

        Raises:
            ValueError: always; the message names a tokenizer to use.
        """
        raise ValueError(
            "Arith has no word list, since its sums are too many words. Name a tokenizer that splits words, "
            "such as GPT-2's."
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
            ValueError: if no new problem of the split was found in 2000 draws.
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
        """Start and operations of a random sound problem."""
        # The answer is fixed before the rejection below: conditions on the steps cannot bias it.
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
        """Whether the answer is no number of the question and, from two steps on, not their sum."""
        signs = {sign for sign, _ in operations}
        both = self.steps == 1 or {"+", "-"} <= signs
        return both and len(set(totals)) == len(totals) and all(n != totals[-1] for _, n in operations)

    def _example(
        self, start: int, operations: Sequence[Operation], rng: random.Random, sample_id: str, index: int
    ) -> Example:
        name, thing = rng.choice(NAMES), rng.choice(THINGS)
        style = style_of(self.trace, index)
        told = [rng.choice(_SENTENCES[sign]).format(name=name, n=n) for sign, n in operations]
        steps: list[dict[Style, str]] = []
        total = start
        for sign, n in operations:
            before, total = total, {"+": total + n, "-": total - n, "*": total * n}[sign]
            sum_text = f"{before}{sign}{n}"
            terse = f"<<{sum_text}={total}>>"
            verbose = f"Now {name} has {sum_text} = {terse}{total} {thing}."
            steps.append({"briefly": terse, "fully": verbose})
        question = f"{name} has {start} {thing}. {' '.join(told)} How many {thing} does {name} have now?"
        return Example(
            question,
            tuple(step[style] for step in steps),
            str(total),
            sample_id,
            teacher_cue=style,
            student_cue="briefly",
            traces=both_traces(steps),
        )


def _difference(before: int, after: int) -> Operation:
    return ("+", after - before) if after > before else ("-", before - after)
