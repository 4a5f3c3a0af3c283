"""What pydantic would convert without a word is refused; what people write for a number is not."""

from typing import Any

import pytest

from kvdistill.config import parse
from kvdistill.config.mistyped import mistyped
from kvdistill.config.sections import RunConfig

GOOD: dict[str, Any] = {
    "model": {"name": "x", "tuning": {"kind": "lora", "r": 4}},
    "data": {"train": {"kind": "hub", "name": 3, "config": 1.1}, "max_length": None},
    "training": {"max_steps": 1e3, "epochs": 3, "save_total_limit": None, "resume": True},
    "loss": {"kv_weight": "auto"},
}


def test_numbers_as_people_write_them_are_kept() -> None:
    assert mistyped(GOOD, RunConfig) == []
    config = parse(GOOD, "here")
    assert (config.training.max_steps, config.training.epochs, config.loss.kv_weight) == (1000, 3.0, "auto")
    assert mistyped({"loss": {"kv_weight": 0.5}, "unknown": {"x": True}}, RunConfig) == []


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"training": {"lr": "0.1"}}, "training.lr: should be a number (given: '0.1')"),
        ({"training": {"progress": 1}}, "training.progress: should be true or false (given: 1)"),
        (
            {"model": {"tuning": {"kind": "lora", "r": True}}},
            "model.tuning.r: should be an integer (given: True)",
        ),
        ({"model": {"tuning": {"r": True}}}, "model.tuning.r: should be an integer (given: True)"),
        ({"loss": {"kv": {"lambda_k": "1"}}}, "loss.kv.lambda_k: should be a number (given: '1')"),
        (
            {"teacher": {"trust_remote_code": 1}},
            "teacher.trust_remote_code: should be true or false (given: 1)",
        ),
        (
            {"teachers": {"a": {"kind": "live", "trust_remote_code": 1}}},
            "teachers.a.trust_remote_code: should be true or false (given: 1)",
        ),
    ],
)
def test_other_types_are_named(tree: dict[str, Any], sentence: str) -> None:
    assert mistyped(tree, RunConfig) == [sentence]
