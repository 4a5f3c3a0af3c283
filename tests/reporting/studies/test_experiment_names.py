"""Experiments by configuration; runs with separate teachers have names of their own."""

from pathlib import Path
from typing import Any

import pytest

from kvdistill.reporting.studies.experiment_names import classify, option
from kvdistill.reporting.studies.experiments import discover

TWO: dict[str, Any] = {"gpt2": {"kind": "live", "weight": 1.0}, "qwen3": {"kind": "live", "weight": 2.0}}


@pytest.mark.parametrize(
    ("experiment", "options", "expected"),
    [
        *((name, {}, name) for name in ("E1", "E2", "E3", "E4", "E5", "direct", "CoT")),
        ("E5", {"loss__kv_weight": 0}, "E1"),
        ("E4", {"loss__kv_weight": 0, "loss__attention_weight": 0.1}, "attention KL alone (rkv)"),
        ("E4", {"target__method": {"kind": "step_end"}}, "step_end"),
        ("E4", {"target__control": {"kind": "mean_target"}}, "rkv, mean_target"),
        ("E2", {"target__control": {"kind": "other_sample"}}, "full, other_sample"),
        ("E4", {"teachers": TWO}, "rkv, gpt2 + qwen3 (lower)"),
        ("E5", {"teachers": TWO, "bridge": {"kind": "lift"}}, "rkv, shuffled, gpt2 + qwen3 (lift)"),
        ("E4", {"teachers": TWO | {"qwen3": {"kind": "live", "weight": 0}}}, "rkv, gpt2 (lift)"),
        ("E4", {"teachers": {"me": {"kind": "own"}}, "bridge": None}, "E4"),
        ("E4", {"teacher": {"name": "big"}}, "rkv, teacher (lift)"),
        ("E1", {"teachers": TWO}, "E1"),
    ],
)
def test_the_configuration_says_which_experiment_it_is(
    tmp_path: Path, write_run: Any, experiment: str, options: dict[str, Any], expected: str
) -> None:
    write_run(tmp_path / "x" / "seed3", experiment, 0.5, **options)
    (study,) = discover(tmp_path).studies
    (run,) = study.runs
    assert (run.experiment, run.record.seed, run.state) == (expected, 3, "counts")


def test_an_option_is_found_by_its_dotted_name() -> None:
    with pytest.raises(ValueError, match=r"the configuration lacks training.task"):
        classify({"training": 3})
    assert option({"a": {"b": None}}, "a.b") is None
