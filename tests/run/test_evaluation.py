"""Evaluations as files and as lines."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pico_runs
from kvdistill.capture.attention import evaluating
from kvdistill.config import RunConfig, SyntheticData, load
from kvdistill.data import Chain
from kvdistill.data.collate import collate
from kvdistill.data.encode import pad_id_of
from kvdistill.pipeline import Distillation
from kvdistill.records.schema import DepthCount, EvaluationRecord
from kvdistill.run.evaluation import (
    Place,
    evaluator_of,
    measure_during_training,
    summary_line,
    write_evaluation,
)
from kvdistill.run.samples import Samples
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from kvdistill.text import Encoded


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


def test_training_measures_accuracy_log_probability_and_losses(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(tiny, ["--target.control.kind", "mean_target"])
    model = build_student(config)
    step = step_model(config, model).train()
    assert isinstance(step, Distillation)
    questions = Samples(config.data, model, tmp_path).read(SyntheticData(task=Chain(names=5, steps=2), num=3))
    measured = measure_during_training(config, questions, step)(model, 1)
    values = evaluator_of(config, timed=0).log_probabilities(model, questions, "latent")
    assert values is not None
    # The answer and its end are two tokens in every sample.
    nats = sum(values) / 3
    assert measured == {
        "validation_accuracy": 0.0,
        "validation_nats": pytest.approx(nats),
        "validation_ce": pytest.approx(-nats / 2, rel=1e-4),
        "validation_kv": pytest.approx(plain_kv(config, step, questions), rel=1e-4),
    }
    # The control's running mean is that of training alone, and the modules are in training mode again.
    assert step.bridge.builders["own"].mean is None
    assert step.training
    assert all(parameter.grad is None for parameter in step.parameters())
    # Without a value, a row of metrics has the accuracy alone.
    monkeypatch.setattr("kvdistill.evaluation.evaluate.Evaluator.log_probabilities", lambda *_: None)
    assert measure_during_training(config, questions, step)(model, 1) == {"validation_accuracy": 0.0}


def plain_kv(config: RunConfig, step: Distillation, samples: Sequence[Encoded]) -> float:
    """The KV loss of self-distillation without a control, from its parts."""
    tokenizer = step.student.tokenizer
    assert tokenizer is not None
    with evaluating(step), torch.no_grad():
        outputs = step.student(batch=collate(samples, pad_id_of(tokenizer)))
        target = config.target.method.compress(outputs.teacher.kv, config.latent.slots)
        return float(config.loss.kv.per_sample(target, outputs.student.kv)[0].mean())


def test_a_run_without_caches_measures_no_kv(tiny: Path, tmp_path: Path) -> None:
    for words in (["--loss.kv_weight", "0"], ["--training.task", "cot"]):
        config = load(tiny, words)
        model = build_student(config)
        questions = Samples(config.data, model, tmp_path).read(
            SyntheticData(task=Chain(names=5, steps=2), num=2)
        )
        measured = measure_during_training(config, questions, step_model(config, model))(model, 1)
        assert measured.keys() == {"validation_accuracy", "validation_nats", "validation_ce"}
