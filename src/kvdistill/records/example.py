"""``example.json``: one test question with its chain of thought and what its latent slots decode to."""

from dataclasses import dataclass
from typing import ClassVar

from kvdistill.records.jsonfile import JsonFile


@dataclass(frozen=True, kw_only=True)
class SlotReading:
    """What one latent slot decodes to: the most likely words, best first, with their probabilities."""

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
    """The answer of one method to the question."""

    method: str
    """Short name of the method in reports, such as ``cot`` or ``rkv``."""
    text: str
    """The complete generated text."""
    answer: str
    """The answer extracted from it; empty where there is none."""
    right: bool


@dataclass(frozen=True, kw_only=True)
class ExampleRecord(JsonFile):
    """``example.json``: one question, chosen by a rule that does not depend on how it is answered."""

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
    """Whether slot i decodes to the result of step i, for i below the smaller number of both."""
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
