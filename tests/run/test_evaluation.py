"""Evaluations as files and as lines."""

from dataclasses import replace
from pathlib import Path

import pytest

import pico_runs
from kvdistill.config import SyntheticData, load
from kvdistill.data import Chain
from kvdistill.records.schema import DepthCount, EvaluationRecord
from kvdistill.run.evaluation import (
    Place,
    evaluator_of,
    measure_during_training,
    summary_line,
    write_evaluation,
)
from kvdistill.run.samples import Samples
from kvdistill.run.student import build_student


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return pico_runs.toml(tmp_path)


def test_the_evaluator_is_as_configured(tiny: Path) -> None:
    config = load(tiny, ["--evaluation.batch_size", "3", "--training.progress", "true"])
    made = evaluator_of(config, timed=2)
    assert (made.batch_size, made.max_new_tokens, made.timed, made.progress) == (3, 6, 2, True)


def test_answers_are_kept_one_a_line(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(tiny, [])
    model = build_student(config)
    questions = Samples(config.data, model, tmp_path).read(SyntheticData(task=Chain(names=5, steps=2), num=2))
    monkeypatch.setattr(
        "kvdistill.evaluation.evaluate.decode",
        lambda model, ids: ["first\nsecond line", questions[1].example.answer][: len(ids)],
    )
    record = write_evaluation(
        evaluator_of(config, timed=0), model, questions, "direct", Place(tmp_path, "set")
    )
    assert (
        tmp_path / "evaluation_set_direct.answers.txt"
    ).read_text() == f"first\\nsecond line\n{questions[1].example.answer}\n"
    assert record.answers == "evaluation_set_direct.answers.txt"
    assert record.correct == 1


def test_a_line_names_its_units_and_has_no_more_digits_than_were_measured() -> None:
    record = EvaluationRecord(
        data_set="t",
        mode="cot",
        num=4,
        correct=1,
        sequential_passes_mean=8.0,
        tokens_mean=1.0,
        ms_batch1=34.84,
        ms_batch32=0.6936,
    )
    line = summary_line(record)
    assert line.endswith("8.0 passes, 1 token a question, 35 ms a question alone, 0.69 ms in batches of 32")
    assert summary_line(replace(record, ms_batch1=None, ms_batch32=None)).endswith("1 token a question")


def test_a_line_has_the_log_probability_and_the_accuracy_by_depth() -> None:
    record = EvaluationRecord(
        data_set="t",
        mode="latent",
        num=4,
        correct=1,
        sequential_passes_mean=8.0,
        tokens_mean=1.0,
        ms_batch1=None,
        ms_batch32=None,
        nats=-1.2345,
    )
    assert ", right answer -1.23 nats, 8.0 passes" in summary_line(record)
    record = replace(record, nats_low=-2.0, nats_high=-0.4567, by_depth={1: DepthCount(num=4, correct=1)})
    assert ", right answer -1.23 nats (95 %: -2 to -0.457), 8.0 passes" in summary_line(record)
    assert summary_line(record).endswith("a question")  # a single depth repeats the accuracy
    record = replace(record, by_depth={1: DepthCount(num=1, correct=1), 4: DepthCount(num=3, correct=0)})
    assert summary_line(record).endswith("a question; right by depth: 1: 100.0 %, 4: 0.0 %")


def test_training_measures_accuracy_and_log_probability(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(tiny, [])
    model = build_student(config)
    questions = Samples(config.data, model, tmp_path).read(SyntheticData(task=Chain(names=5, steps=2), num=3))
    measured = measure_during_training(config, questions)(model, 1)
    values = evaluator_of(config, timed=0).log_probabilities(model, questions, "latent")
    assert values is not None
    assert measured == {"validation_accuracy": 0.0, "validation_nats": pytest.approx(sum(values) / 3)}
    # Without a value, a row of metrics has the accuracy alone.
    monkeypatch.setattr("kvdistill.evaluation.evaluate.Evaluator.log_probabilities", lambda *_: None)
    assert measure_during_training(config, questions)(model, 1) == {"validation_accuracy": 0.0}
