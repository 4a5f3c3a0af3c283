"""Memorized rules, generated: fixed permutations of names, held in the weights, are applied in turn."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

from kvdistill.data.chain import NAMES
from kvdistill.data.split import (
    Filler,
    Split,
    Trace,
    belongs,
    both_traces,
    depth_at,
    depth_range,
    step_texts,
    style_of,
)
from kvdistill.data.template import ANSWER_PROMPT
from kvdistill.text import Example


@dataclass(frozen=True, kw_only=True)
class Rules:
    """A parcel is moved by ``steps`` rules; who holds it in the end?

    Each of ``rules`` rules is a permutation of the names without fixed points, the same for every seed of the
    data: a model has to hold it in its weights. Rule i (from 1) is asked for with a frequency proportional to
    ``i ** -zipf``, so that skill comes in many small pieces, the frequent ones first. A question names the
    start and the rules: ``start Eve r3 r1 ?``. Its cue, ``briefly`` or ``fully``, asks for a style; the
    student's cue is always ``briefly``. A terse step is one word (``Ann``), a verbose step five
    (``r3 takes Eve to Ann``), or what ``filler`` makes of it.

    A problem is a start with a sequence of rules; its hash decides the split (8:1:1). Problems are drawn
    independently, so that a set holds frequent ones more than once. As with ``Chain``, another ``trace`` or
    ``filler`` gives the same problems in the same order, and each depth occurs equally often in each style.
    The start is uniform and rules are permutations, so the answer is uniform: chance is ``1 / names``.

    Source: ours; skills with Zipf frequencies: https://arxiv.org/abs/2303.13506, section 4.
    """

    kind: Literal["rules"] = "rules"
    names: int = 16
    rules: int = 16
    """Number of rules, R."""
    zipf: float = 1.0
    """Exponent of the rules' frequencies; 0 asks for all rules equally often."""
    steps: int | tuple[int, int] = (1, 4)
    """Rules of a question, or the least and the most."""
    only: tuple[int, ...] = ()
    """Rules that occur, from 1; empty: all. Teachers of complementary skill see complementary rules."""
    groups: int = 1
    """All rules of a question are of one group; rule i (from 1) is in group ``(i - 1) % groups``. With 1, any
    rules occur together. Groups are asked for with the frequency of their rules.
    """
    trace: Trace = "terse"
    filler: Filler = "giver"
    """What the words of a verbose step before its result are."""
    pad: bool = False
    """Continue each trace to the most steps, repeating the holder, so that step i is the same everywhere."""
    stop: bool = False
    """End each step with a full stop."""

    def __post_init__(self) -> None:
        if not 3 <= self.names <= len(NAMES):
            raise ValueError(f"Rules.names is {self.names}. Choose a number from 3 to {len(NAMES)}.")
        if not 1 <= self.rules <= 99:
            raise ValueError(f"Rules.rules is {self.rules}. Choose a number from 1 to 99.")
        if not 0 <= self.zipf <= 10:
            raise ValueError(f"Rules.zipf is {self.zipf}. Choose a number from 0 to 10.")
        least, most = self.depths
        if not 1 <= least <= most <= 99:
            raise ValueError(
                f"Rules.steps is {self.steps}. Choose a number from 1 to 99, or two in ascending order."
            )
        if not 1 <= self.groups <= self.rules:
            raise ValueError(
                f"Rules.groups is {self.groups}. Choose a number from 1 to rules ({self.rules})."
            )
        wrong = [rule for rule in self.only if not 1 <= rule <= self.rules]
        if wrong:
            raise ValueError(f"Rules.only holds {wrong[0]}. The rules are numbered from 1 to {self.rules}.")

    @property
    def depths(self) -> tuple[int, int]:
        """The least and the most rules of a question."""
        return depth_range(self.steps)

    @property
    def sentence(self) -> str:
        """The task in one sentence."""
        return (
            f"A parcel is moved among {self.names} people by rules learnt by heart ({self.rules} of them): "
            "who holds it in the end?"
        )

    @cached_property
    def permutations(self) -> tuple[dict[str, str], ...]:
        """The rules: each name with the name that the parcel goes to."""
        rng, found = random.Random(f"rules/{self.names}"), []
        names = NAMES[: self.names]
        while len(found) < self.rules:
            targets = rng.sample(names, len(names))
            # About one permutation in e has no fixed point.
            if all(name != target for name, target in zip(names, targets, strict=True)):
                found.append(dict(zip(names, targets, strict=True)))
        return tuple(found)

    def words(self) -> tuple[str, ...]:
        """The vocabulary of questions, cues, steps, answers and the default answer prompt.

        Returns:
            All words, to be given to ``word_tokenizer``; the same for every trace, depth and choice of rules.
        """
        rules = (f"r{number}" for number in range(1, self.rules + 1))
        fixed = ("start", "takes", "to", "then", "hands", ".", "?", "briefly", "fully")
        return (*NAMES[: self.names], *rules, *fixed, *ANSWER_PROMPT.split())

    def make(self, num: int, split: Split, seed: int) -> list[Example]:
        """Generate examples.

        Args:
            num: number of examples.
            split: the split that they are drawn from; no problem is in two splits.
            seed: decides problems and order.

        Returns:
            ``num`` examples, the same for the same arguments.
        """
        rng = random.Random(f"rules/{split}/{seed}")
        examples = []
        for index in range(num):
            start, rules = self._problem(depth_at(index, self.depths), split, rng)
            examples.append(self._example(start, rules, rng, f"rules-{split}-{seed}-{index}", index))
        return examples

    def _problem(self, depth: int, split: Split, rng: random.Random) -> tuple[str, list[int]]:
        """Start and rules, from 1, of a random problem of the split."""
        while True:
            start = rng.choice(NAMES[: self.names])
            allowed, weights = self._group(rng)
            rules = rng.choices(allowed, cum_weights=weights, k=depth)
            if belongs(f"{start} {rules}", split):
                return start, rules

    def _group(self, rng: random.Random) -> tuple[list[int], list[float]]:
        """The rules of a random group, with their cumulative weights."""
        if self.groups == 1:
            return self._by_group[0]
        # The last cumulative weight of a group is its sum.
        totals = list(accumulate(weights[-1] for _, weights in self._by_group))
        return rng.choices(self._by_group, cum_weights=totals)[0]

    @cached_property
    def _by_group(self) -> list[tuple[list[int], list[float]]]:
        """The rules that occur in each group with any, with their cumulative weights."""
        found = []
        allowed = self.only or range(1, self.rules + 1)
        for group in range(self.groups):
            rules = [rule for rule in allowed if (rule - 1) % self.groups == group]
            if rules:
                found.append((rules, list(accumulate(rule**-self.zipf for rule in rules))))
        return found

    def _example(
        self, start: str, rules: Sequence[int], rng: random.Random, sample_id: str, index: int
    ) -> Example:
        style, steps, holder = style_of(self.trace, index), [], start
        moves = [*rules, *[0] * (self.depths[1] - len(rules))] if self.pad else rules
        for rule in moves:
            giver = holder
            if rule:  # 0 continues a padded trace: the parcel stays
                holder = self.permutations[rule - 1][giver]
            named = f"r{rule}" if rule else "then"
            before = (named, "takes", giver, "to")
            steps.append(step_texts(holder, self.filler, before, rng, self.stop))
        asked = " ".join(f"r{rule}" for rule in rules)
        return Example(
            question=f"start {start} {asked} ?",
            steps=tuple(step[style] for step in steps),
            answer=holder,
            sample_id=sample_id,
            teacher_cue=style,
            student_cue="briefly",
            depth=len(rules),
            traces=both_traces(steps),
        )
