"""What a run writes is what a report reads; numbers that follow from others cannot be written by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvdistill.records.probes import ProbesRecord
from kvdistill.records.schema import (
    Bar,
    Curve,
    DemoSummary,
    DepthCount,
    EvaluationRecord,
    Metrics,
    RunRecord,
)

SUMMARY_KEYS = {
    "cot",
    "direct",
    "latent_e1",
    "latent_kv",
    "kv_method",
    "latent_by_method",
    "steps_to_90_e1",
    "steps_to_90_kv",
    "passes_cot",
    "passes_latent",
    "minutes",
}


def summary(**more: object) -> DemoSummary:
    required = {
        "cot": 0.98,
        "direct": 0.4,
        "latent_e1": 0.8,
        "latent_kv": 0.93,
        "kv_method": "rkv",
        "latent_by_method": {"rkv": 0.93},
    }
    steps = {
        "steps_to_90_e1": None,
        "steps_to_90_kv": 700,
        "passes_cot": 41.5,
        "passes_latent": 7.0,
        "minutes": 12.5,
    }
    return DemoSummary(**(required | steps | more))  # pyright: ignore[reportArgumentType]


def evaluation(**more: object) -> EvaluationRecord:
    values = {
        "data_set": "gsm8k",
        "mode": "latent",
        "num": 10,
        "correct": 5,
        "sequential_passes_mean": 7.0,
        "tokens_mean": 20.5,
    }
    return EvaluationRecord(**(values | {"ms_batch1": 40.0, "ms_batch32": None} | more))


def test_an_evaluation_carries_the_accuracy_and_interval_of_its_counts(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    evaluation().write(path)
    document = json.loads(path.read_text())
    assert document["accuracy"] == 0.5 and document["low"] == pytest.approx(0.236593, abs=1e-6)
    assert document["ms_batch32"] is None and "answers" not in document
    assert EvaluationRecord.read(path) == evaluation()
    path.write_text(json.dumps(document | {"accuracy": 0.6}))
    with pytest.raises(ValueError, match=r"accuracy is 0.6, the other keys give 0.5. Write the file again."):
        EvaluationRecord.read(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="`kvdistill evaluate` writes it"):
        EvaluationRecord.read(path)


def test_log_probability_and_depths_are_kept_and_old_evaluations_are_read(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    evaluation().write(path)
    assert not {"nats", "nats_low", "nats_high", "by_depth"} & json.loads(path.read_text()).keys()
    old = EvaluationRecord.read(path)
    assert (old.nats, old.nats_low, old.nats_high, old.by_depth) == (None, None, None, None)
    counts = {1: DepthCount(num=4, correct=4), 12: DepthCount(num=6, correct=1)}
    new = evaluation(nats=-0.5, nats_low=-0.75, nats_high=-0.25, by_depth=counts)
    new.write(path)
    assert EvaluationRecord.read(path) == new
    assert json.loads(path.read_text())["by_depth"]["12"] == {"num": 6, "correct": 1}


def test_a_curve_may_hold_log_probabilities(tmp_path: Path) -> None:
    path = tmp_path / "curve.json"
    path.write_text('{"version": 1, "method": "kv", "steps": [1, 2], "accuracy": [0.5, 1.0]}')
    old = Curve.read(path)
    assert old.nats is None
    new = replace(old, nats=[-2.0, -0.5])
    new.write(path)
    assert Curve.read(path) == new
    with pytest.raises(ValueError, match=r"curve kv: 2 steps, 1 log-probabilities. Give one a step, or none"):
        replace(old, nats=[-2.0])


def test_a_bar_is_reached_by_its_numbers_alone() -> None:
    assert Bar(value=0.9, bar=0.9).reached
    assert not Bar(value=0.89, bar=0.9).reached
    assert Bar(value=19.0, bar=20.0, at_most=True).reached
    assert not Bar(value=21.0, bar=20.0, at_most=True).reached
    assert not Bar(value=None, bar=20.0, at_most=True).reached


def test_the_summary_has_exactly_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    summary().write(path)
    document = json.loads(path.read_text())
    assert document.keys() == SUMMARY_KEYS and document["steps_to_90_e1"] is None
    assert DemoSummary.read(path) == summary()
    full = summary(
        cot_terse=0.9,
        ms_cot=200.0,
        ms_latent=40.0,
        passes_cot_terse=18.0,
        seed=3,
        bars={"gain": Bar(value=0.13, bar=0.1)},
    )
    full.write(path)
    document = json.loads(path.read_text())
    assert document.keys() == SUMMARY_KEYS | {
        "cot_terse",
        "ms_cot",
        "ms_latent",
        "passes_cot_terse",
        "seed",
        "bars",
    }
    assert document["bars"] == {"gain": {"value": 0.13, "bar": 0.1, "reached": True}}
    assert DemoSummary.read(path) == full
    for changed, message in (
        ({"speed": 1}, "unknown key speed"),
        ({"cot": None}, "cot should be float, not None"),
    ):
        path.write_text(json.dumps(document | changed))
        with pytest.raises(ValueError, match=f"summary.json: {message}"):
            DemoSummary.read(path)


def test_run_and_probes_come_back_as_they_went(tmp_path: Path) -> None:
    run = RunRecord(
        config={"seed": 1},
        versions={"torch": "2"},
        commit=None,
        seed=1,
        hardware="CPU",
        started="2026-01-01T00:00:00+00:00",
        seconds=None,
    )
    run.write(tmp_path / "run.json")
    assert RunRecord.read(tmp_path / "run.json") == run
    probes = ProbesRecord(
        zeroed=0.1, swapped=0.2, fewer={1: 0.3, 10: 0.4}, top_words=[["a"]], step_match=[1.0]
    )
    probes.write(tmp_path / "probes.json")
    assert ProbesRecord.read(tmp_path / "probes.json") == probes


@pytest.mark.parametrize(
    ("steps", "accuracy", "message"),
    [
        ([], [], "curve kv: 0 steps, 0 accuracies. Give one"),
        ([1, 2], [0.5], "curve kv: 2 steps, 1 accuracies. Give one"),
        ([1, 1], [0.5, 0.5], "curve kv: steps do not rise. Give each step once"),
        ([1, 2], [0.5, 50.0], "curve kv: an accuracy is not between 0 and 1. Give shares"),
        ([1], [float("nan")], "curve kv: an accuracy is not between 0 and 1. Give shares"),
    ],
)
def test_a_curve_that_is_none_is_refused(steps: list[int], accuracy: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Curve(method="kv", steps=steps, accuracy=accuracy)


def test_metrics_come_back_with_what_is_not_finite_as_nan(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "run" / "metrics.jsonl")
    metrics.append_row(10, {"loss": 1.5, "kv": math.inf})
    metrics.append_row(20, {"loss": 1.25})
    assert metrics.path.read_text() == '{"step": 10, "loss": 1.5, "kv": null}\n{"step": 20, "loss": 1.25}\n'
    first, second = metrics.read_rows()
    assert first["loss"] == 1.5 and math.isnan(first["kv"]) and second == {"step": 20, "loss": 1.25}
    with pytest.raises(ValueError, match="a metric is called step"):
        metrics.append_row(30, {"step": 1.0})


def test_a_torn_last_row_is_left_out_and_cut_off_by_the_next(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    whole = b'{"step": 1, "loss": 2.0}\n'
    row = b'{"step": 2, "loss": 1.5}\n'
    for cut in range(len(row)):
        metrics.path.write_bytes(whole + row[:cut])
        assert metrics.read_rows() == [{"step": 1, "loss": 2.0}]
        metrics.append_row(2, {"loss": 1.5})
        assert metrics.path.read_bytes() == whole + row
    metrics.path.write_bytes(row[:9])
    metrics.append_row(2, {"loss": 1.5})
    assert metrics.path.read_bytes() == row


@pytest.mark.parametrize(
    "bad", ['{"step": 2, "lo', '{"loss": 1.0}', '{"step": null}', '{"step": 2, "loss": "low"}', "[2]", ""]
)
def test_a_broken_row_in_the_middle_is_refused_by_its_line(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n' + bad + '\n{"step": 3, "loss": 1.0}\n')
    with pytest.raises(
        ValueError,
        match=r"metrics.jsonl, line 2: not a row of numbers with a step. Delete the line or train again.",
    ):
        Metrics(path).read_rows()


def test_missing_metrics_name_their_command(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"metrics.jsonl does not exist: `kvdistill train` writes it."
    ):
        Metrics(tmp_path / "metrics.jsonl").read_rows()


def test_series_take_the_later_row_of_a_step_written_twice(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    for step, loss in ((1, 3.0), (2, 2.0), (3, 9.0), (2, 2.5)):
        metrics.append_row(step, {"loss": loss})
    metrics.append_row(3, {"kv": 4})
    series = metrics.series()
    assert series == {"kv": {3: 4.0}, "loss": {1: 3.0, 2: 2.5, 3: 9.0}} and list(series["loss"]) == [1, 2, 3]


def test_rows_can_be_written_anew(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "run" / "metrics.jsonl")
    metrics.write_rows([(1, {"loss": 2.0}), (2, {"loss": math.nan})])
    metrics.append_row(3, {"loss": 1.0})
    assert (
        metrics.path.read_text()
        == '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": null}\n{"step": 3, "loss": 1.0}\n'
    )
    with pytest.raises(ValueError, match="a metric is called step"):
        metrics.write_rows([(1, {"loss": 1.0}), (2, {"step": 1.0})])
    assert len(metrics.read_rows()) == 3, "what was there stays where the new rows cannot be written"
    metrics.write_rows([])
    assert metrics.read_rows() == []


def test_resumes_are_counted_and_older_records_have_none(tmp_path: Path) -> None:
    told: dict[str, Any] = {
        "config": {},
        "versions": {},
        "commit": None,
        "seed": 0,
        "hardware": "CPU",
        "started": "now",
        "seconds": None,
    }
    for resumes in (0, 2):
        RunRecord(**told, resumes=resumes).write(tmp_path / "run.json")
        assert ('"resumes"' in (tmp_path / "run.json").read_text()) == (resumes > 0)
        assert RunRecord.read(tmp_path / "run.json").resumes == resumes
