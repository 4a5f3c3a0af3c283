"""What calibration reads: the choice of samples, batches, and the counts of a teacher."""

from dataclasses import replace
from typing import Any

import pytest

import pico_trained
from kvdistill.align.calibration import Calibration
from kvdistill.align.layer_map import Ratio
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.run import gathering
from kvdistill.run.gathering import Gathered, chosen_samples, chunks
from kvdistill.teacher import SelfDistillation
from kvdistill.training.ranks import Ranks


@pytest.fixture(scope="module")
def student() -> LatentReasoner:
    return pico_trained.trained()


def test_samples_are_drawn_by_seed_and_have_a_chain(student: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = list(pico_trained.samples(student))
    bare = replace(samples[0], teacher_mode=replace(samples[0].teacher_mode, cot=samples[0].student_mode.cot))
    monkeypatch.setattr(gathering, "SAMPLES", 5)
    drawn = chosen_samples([*samples, bare], 3)
    assert drawn == chosen_samples([*samples, bare], 3) != chosen_samples([*samples, bare], 4)
    assert len(drawn) == 5
    assert chosen_samples([bare, samples[1]], 0) == [samples[1]]


def test_the_last_group_of_samples_may_be_smaller(student: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "BATCH", 2)
    a, b, c, d, e = list(pico_trained.samples(student))[:5]
    assert chunks([a, b, c, d, e]) == [[a, b], [c, d], [e]]
    assert chunks([]) == []


def test_a_teacher_with_the_students_tokens_covers_all_that_it_is_counted_for(student: Any) -> None:
    batch = pico_trained.collate(list(pico_trained.samples(student))[:6], 0)
    teacher, shape = SelfDistillation(student.geometry, "own"), student.geometry()
    gathered = Gathered(Calibration(shape, shape, Ratio().pair(shape, shape)))
    outputs = student(batch=batch)
    for _ in range(2):
        kv = gathered.read(teacher, batch, outputs)
    assert kv.layers[0].keys.equal(outputs.teacher.kv.layers[0].keys)
    gathered.calibration.add(kv, outputs.teacher.kv, batch.sample_ids)
    assert gathered.tokens == gathered.covered == 2 * int(batch.teacher_mode.cot.mask.sum())
    record = gathered.record(teacher, 0.5, ["a step"], [], Ranks())
    assert (record.teacher, record.weight, record.steps, record.covered) == ("own", 0.5, ["a step"], 1.0)
    assert 2 * sum(record.tokens.values()) == gathered.tokens
