"""What a teacher reads of an example: the student's text, a named trace of the data, or its own chains."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, runtime_checkable

from kvdistill.data.keys import question_key
from kvdistill.text import Example

Steps = tuple[str, ...]
"""A chain of thought, one entry per reasoning step."""


@runtime_checkable
class ReadText(Protocol):
    """Chooses the chain of thought that a reader reads of each example."""

    same: ClassVar[bool]
    """Whether it is the student's own in every example, so that tokens can be aligned by characters."""

    def of(self, example: Example, epoch: int) -> Example | None:
        """The example as it is read.

        Args:
            example: The texts that the student reads.
            epoch: Number of the epoch, which draws are made by.

        Returns:
            The example with another chain of thought; None where there is none to read.
        """
        ...

    def longest(self, example: Example) -> Example:
        """The example with the longest chain that may be read in any epoch.

        Args:
            example: The texts that the student reads.

        Returns:
            The example with that chain.
        """
        ...


@dataclass(frozen=True)
class StudentText:
    """The chain of thought that the student reads in teacher mode (``reads = "gold"``)."""

    same: ClassVar[bool] = True

    def of(self, example: Example, epoch: int) -> Example | None:
        """The example itself."""
        return example

    def longest(self, example: Example) -> Example:
        """The example itself."""
        return example


@dataclass(frozen=True)
class TraceText:
    """A trace that the data name, with the cue that asks for it."""

    same: ClassVar[bool] = False
    name: str
    """Name of the trace, such as ``verbose``."""

    def of(self, example: Example, epoch: int) -> Example | None:
        """The example with the trace; None where it has none of that name."""
        for trace in example.traces:
            if trace.name == self.name:
                return replace(example, steps=trace.steps, teacher_cue=trace.cue)
        return None

    def longest(self, example: Example) -> Example:
        """The example with the trace, without a chain where it has none."""
        return self.of(example, 0) or without_chain(example)


@dataclass(frozen=True)
class SampledText:
    """One of the right chains that were sampled for the question (``reads = "own"``).

    In each epoch the chains of a question are put into a random order, and the reader takes the one at its
    place: readers at different places read different chains.

    Source: ours.
    """

    same: ClassVar[bool] = False
    chains: Mapping[str, tuple[Steps, ...]] = field(repr=False)
    """The right chains by ``question_key``."""
    place: int = 0
    """Which of them in the epoch's order, from 0; a question with too few has none to read."""
    seed: int = 0
    """Seed of the order."""

    def of(self, example: Example, epoch: int) -> Example | None:
        """The example with the chain of the epoch."""
        key = question_key(example)
        found = self.chains.get(key, ())
        if len(found) <= self.place:
            return None
        order = random.Random(f"chains/{self.seed}/{epoch}/{key}").sample(range(len(found)), len(found))
        return replace(example, steps=found[order[self.place]])

    def longest(self, example: Example) -> Example:
        """The example with the longest of its chains, without a chain where it has none."""
        found = self.chains.get(question_key(example), ())
        if not found:
            return without_chain(example)
        return replace(example, steps=max(found, key=lambda steps: sum(map(len, steps))))


def without_chain(example: Example) -> Example:
    """An example with question and answer only.

    Args:
        example: Any example.

    Returns:
        A copy without a chain of thought and without further traces; its number of dependent steps is kept.
    """
    return replace(example, steps=(), traces=(), depth=example.dependent_steps)
