"""An example that does not fit together is refused, and what is written is read."""

from pathlib import Path
from typing import Any

import pytest

from kvdistill.records.example import ExampleAnswer, ExampleRecord, SlotReading

FIELDS: dict[str, Any] = {
    "task": "t",
    "rule": "r",
    "data_set": "d",
    "sample_id": "0",
    "question": "q",
    "steps": ["a"],
    "results": ["a"],
    "answer": "a",
    "slots": [SlotReading(words=["a"], probabilities=[0.5])] * 2,
    "matches": [True],
    "answers": [ExampleAnswer(method="cot", text="x a", answer="a", right=True)],
}


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = ExampleRecord(**FIELDS)
    record.write(tmp_path / "example.json")
    assert ExampleRecord.read(tmp_path / "example.json") == record


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [({"results": []}, "1 steps and 0 results"), ({"matches": [True, True]}, "2 matches")],
)
def test_parts_that_do_not_fit_are_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ExampleRecord(**(FIELDS | wrong))
    with pytest.raises(ValueError, match="a slot has 1 words and 0 probabilities"):
        SlotReading(words=["a"], probabilities=[])
