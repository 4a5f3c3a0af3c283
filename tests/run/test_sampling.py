"""Sampled chains: right ones are kept once, a killed call is continued, and a hopeless teacher is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import pico_trained
from kvdistill.config import DataSection, Sampling, SyntheticData, TeacherSection
from kvdistill.data.keys import question_key
from kvdistill.evaluation.answers import same
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.traces import SamplesReport, Trace, read_traces
from kvdistill.run.sampling import kept_chain, sample_chains
from kvdistill.run.writing import WritingTeacher, open_writer

QUESTIONS = pico_trained.examples()[:6]
SETTINGS = Sampling(num_samples=6, temperature=2.0, top_p=1.0, max_new_tokens=8)
DATA = DataSection(train=SyntheticData(num=1))


def saved(model: LatentReasoner, folder: Path) -> WritingTeacher:
    model.save_pretrained(folder)
    return open_writer("pico", TeacherSection(name=str(folder)), DATA)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> WritingTeacher:
    """A teacher that is mostly right at this temperature."""
    return saved(pico_trained.trained(), tmp_path_factory.mktemp("teacher"))


def sampled(teacher: WritingTeacher, folder: Path, settings: Sampling = SETTINGS) -> SamplesReport:
    return sample_chains(teacher, QUESTIONS, folder, settings, print)


def test_a_text_becomes_a_chain_if_its_answer_is_right() -> None:
    assert kept_chain("a b\n c \n\nanswer d", "answer", "D") == Trace(("a b", "c"), "d")
    assert kept_chain("2 + 2\n#### 4.0", "answer", "4") == Trace(("2 + 2",), "4.0")
    assert kept_chain("a b\nanswer e", "answer", "d") is None
    assert kept_chain("a b\nd", "answer", "d") is None


def test_right_and_distinct_chains_are_kept(teacher: WritingTeacher, tmp_path: Path) -> None:
    report = sampled(teacher, tmp_path)
    found = read_traces(tmp_path)
    assert list(found) == [question_key(example) for example in QUESTIONS]
    for example in QUESTIONS:
        row = found[question_key(example)]
        assert row.sampled == 6
        assert len({trace.steps for trace in row.traces}) == len(row.traces) <= row.right <= 6
        assert all(same(trace.answer, example.answer) for trace in row.traces)
    kept = sum(len(row.traces) for row in found.values())
    right = sum(row.right for row in found.values())
    assert 0 < right < 36, "some are wrong at this temperature"
    assert (report.right_share, report.distinct_share) == (right / 36, kept / right)
    assert 0 < report.gold_overlap < 1
    assert SamplesReport.read(tmp_path / "samples.json") == report


def test_a_killed_call_is_continued_and_batches_change_nothing(
    teacher: WritingTeacher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampled(teacher, tmp_path / "whole", SETTINGS.model_copy(update={"batch_size": 1}))
    sampled(teacher, tmp_path / "cut")
    path = tmp_path / "cut" / "samples.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    sampled(teacher, tmp_path / "cut")
    assert path.read_bytes() == data == (tmp_path / "whole" / "samples.jsonl").read_bytes()
    assert "half-written line" in capsys.readouterr().out


def test_equal_questions_are_asked_once(teacher: WritingTeacher, tmp_path: Path) -> None:
    report = sample_chains(teacher, [*QUESTIONS, *QUESTIONS], tmp_path, SETTINGS, print)
    assert report.questions == 6


def test_other_settings_and_too_few_are_told(teacher: WritingTeacher, tmp_path: Path) -> None:
    sampled(teacher, tmp_path)
    with pytest.raises(ValueError, match="holds chains with other sampling.top_p. Choose another folder"):
        sampled(teacher, tmp_path, SETTINGS.model_copy(update={"top_p": 0.9}))
    few = sampled(teacher, tmp_path, SETTINGS.model_copy(update={"min_right": 6}))
    assert len(few.too_few) == sum(len(row.traces) < 6 for row in read_traces(tmp_path).values()) > 0


def test_chains_are_continued_whatever_the_model_is_called(teacher: WritingTeacher, tmp_path: Path) -> None:
    sampled(teacher, tmp_path)
    renamed = replace(teacher, name="second", source=f"./{teacher.source}", revision="main")
    assert sampled(renamed, tmp_path).questions == 6
    other = saved(pico_trained.student(seed=5), tmp_path / "other")
    with pytest.raises(ValueError, match="holds chains with other weights. Choose another folder"):
        sampled(other, tmp_path)


def test_a_teacher_that_is_never_right_is_refused_with_the_count(
    teacher: WritingTeacher, tmp_path: Path
) -> None:
    questions = [replace(example, answer="Zoe") for example in QUESTIONS]
    with pytest.raises(ValueError, match="pico is never right: 0 of 36 chains for 6 questions"):
        sample_chains(teacher, questions, tmp_path, SETTINGS, print)
    header, *rows = (tmp_path / "samples.jsonl").read_text().splitlines()
    assert json.loads(header)["questions"] == len(rows) == 6
    report = SamplesReport.read(tmp_path / "samples.json")
    assert (report.right_share, report.share_with_none, len(report.too_few)) == (0, 1, 6)
    # The complete file is refused again.
    with pytest.raises(ValueError, match="0 of 36 chains for 6 questions"):
        sample_chains(teacher, questions, tmp_path, SETTINGS, print)


def test_a_hopeless_teacher_is_not_asked_to_the_end(
    teacher: WritingTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvdistill.run.sampling.HOPELESS", 2)
    questions = [replace(example, answer="Zoe") for example in QUESTIONS]
    for _ in range(2):
        with pytest.raises(ValueError, match="0 of 12 chains for 2 questions"):
            sample_chains(teacher, questions, tmp_path, SETTINGS.model_copy(update={"batch_size": 6}), print)
