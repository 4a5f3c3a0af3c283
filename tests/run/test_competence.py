"""Competence tables: nats per character by hand, whatever the batch; resumed, refused for others."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pico_trained
from kvdistill.config import DataSection, SyntheticData, TeacherSection
from kvdistill.data.keys import question_key
from kvdistill.records.competence import CompetenceTable
from kvdistill.records.traces import QuestionTraces, Trace
from kvdistill.run.competence import figures_of, measure_competence, nats_per_character, of_answer, of_chain
from kvdistill.run.writers import Writers

QUESTIONS = pico_trained.examples()[:7]
DATA = DataSection(train=SyntheticData(num=1))


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Writers:
    """A trained teacher and an untrained one."""
    found = {}
    for name, model in (("good", pico_trained.trained()), ("raw", pico_trained.student())):
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        found[name] = TeacherSection(name=str(folder))
    return Writers(found, DATA)


def test_nats_per_character_are_those_of_each_text_alone(teachers: Writers) -> None:
    """By hand, in float64: the log-probabilities of the tokens that have characters, over the characters."""
    teacher = teachers.open("good")
    samples = teacher.encode(QUESTIONS)
    together = nats_per_character(teacher, [of_chain(teacher, sample) for sample in samples])
    for sample, found in zip(samples, together, strict=True):
        cot = sample.teacher_mode.cot
        before = teacher.opening(sample)
        ids = torch.tensor([[*before, *cot.ids]], device=teacher.model.device)
        logits = teacher.model(input_ids=ids).logits[0].double().log_softmax(-1)
        total, covered = 0.0, 0
        for place, (start, stop) in enumerate(cot.spans):
            if stop > start:
                total -= float(logits[len(before) + place - 1, cot.ids[place]].detach())
                covered += stop - start
        assert found == pytest.approx(total / covered, rel=1e-4)


def test_answers_are_given_the_question_alone_and_the_end_token_does_not_count(
    teachers: Writers,
) -> None:
    teacher = teachers.open("good")
    (sample,) = teacher.encode(QUESTIONS[:1])
    text = of_answer(teacher, sample)
    assert teacher.tokenizer.decode(text.ids) == "Ann Ann <bot> <eot> answer Ann </s>"
    assert text.scored == [False] * 5 + [True, False]
    # A chain that is missing has no figure.
    (bare,) = figures_of(teacher, [replace(QUESTIONS[0], steps=())], {})
    assert bare.cot_nats is None
    assert bare.answer_nats is not None
    assert bare.right is None


def test_the_better_teacher_has_the_better_figures(teachers: Writers, tmp_path: Path) -> None:
    key = question_key(QUESTIONS[2])
    traces = {"good": {key: QuestionTraces(key, "2", (Trace(("x",)),), 4, 3)}}
    table = measure_competence(teachers, QUESTIONS, traces, tmp_path, print)
    assert table.figures[key]["good"].right == 0.75
    assert table.figures[key]["raw"].right is None
    for example in QUESTIONS:
        found = table.figures[question_key(example)]
        assert found["good"].cot_nats < found["raw"].cot_nats  # pyright: ignore
    assert CompetenceTable.read(tmp_path).figures == table.figures
    table.require_teachers({name: teachers.fingerprints(name).weights for name in teachers})
    with pytest.raises(ValueError, match="raw: its weights are not those"):
        table.require_teachers(dict.fromkeys(teachers, teachers.fingerprints("good").weights))


def test_a_killed_call_is_continued_and_batches_change_nothing(teachers: Writers, tmp_path: Path) -> None:
    one = measure_competence(teachers, QUESTIONS, {}, tmp_path / "one", print, batch_size=1)
    measure_competence(teachers, QUESTIONS, {}, tmp_path / "two", print)
    path = tmp_path / "two" / "competence.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    two = measure_competence(teachers, QUESTIONS, {}, tmp_path / "two", print)
    for key, by_name in one.figures.items():
        for name, figures in by_name.items():
            assert math.isclose(figures.cot_nats or 0, two.figures[key][name].cot_nats or 0, rel_tol=1e-5)
    with pytest.raises(ValueError, match="was made with other data, questions. Choose another folder"):
        measure_competence(teachers, QUESTIONS[:3], {}, tmp_path / "two", print)
