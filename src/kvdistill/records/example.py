"""``example.json``: one question of the test set, what its chain of thought says, and what the latent slots
say instead.
"""

from dataclasses import dataclass
from typing import ClassVar

from kvdistill.records.jsonfile import JsonFile


@dataclass(frozen=True, kw_only=True)
class SlotReading:
    """What one latent slot decodes to: the likeliest words, best first, with their probabilities."""

    words: list[str]
    probabilities: list[float]

    def __post_init__(self) -> None:
        if not self.words or len(self.words) != len(self.probabilities):
            raise ValueError(
                f"a slot has {len(self.words)} words and {len(self.probabilities)} probabilities. Give one "
                "each, and at least one."
            )


@dataclass(frozen=True, kw_only=True)
class ExampleAnswer:
    """What one way of reasoning said to the question."""

    method: str
    """Short name of the method, as reports know it, such as ``cot`` or ``rkv``."""
    text: str
    """All that was said."""
    answer: str
    """The answer in it; empty where it holds none."""
    right: bool


@dataclass(frozen=True, kw_only=True)
class ExampleRecord(JsonFile):
    """``example.json``: one question, chosen before anyone looked at how it is answered."""

    made_by: ClassVar[str] = "kvdistill train"

    task: str
    """The task in one sentence."""
    rule: str
    """How the question was chosen."""
    data_set: str
    sample_id: str
    question: str
    steps: list[str]
    """The data set's own chain of thought."""
    results: list[str]
    """The result of each step: its last word or number."""
    answer: str
    """The right answer."""
    slots: list[SlotReading]
    matches: list[bool]
    """Whether slot i decodes to the result of step i, for as many as there are of both."""
    answers: list[ExampleAnswer]

    def __post_init__(self) -> None:
        if len(self.results) != len(self.steps):
            raise ValueError(
                f"an example has {len(self.steps)} steps and {len(self.results)} results. Give one result a "
                "step."
            )
        if len(self.matches) != min(len(self.slots), len(self.steps)):
            raise ValueError(
                f"an example has {len(self.matches)} matches. Give one for each slot that has a step."
            )
