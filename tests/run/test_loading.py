"""Training data as Trainer takes it: batches for the student and for teachers with tokens of their own."""

from pathlib import Path

import pytest
import torch

from kvdistill.data import Plain, word_tokenizer, write_jsonl
from kvdistill.data.keys import question_key
from kvdistill.data.readers import Reader
from kvdistill.data.readings import SampledText
from kvdistill.pipeline import Distillation
from kvdistill.run.loading import collate_batch, training_data
from kvdistill.run.samples import Samples
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from kvdistill.training.ranks import Ranks
from kvdistill.training.stream import BatchIndex, Stream
from pico_students import config, on
from pico_teachers import TASK, encoded, live, run, save_teachers


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_teachers(tmp_path_factory.mktemp("models"))


def test_only_unlike_tokens_have_an_alignment(models: dict[str, Path], tmp_path: Path) -> None:
    """A teacher with the student's tokens has no reader; one with its own reads and is aligned."""
    teachers = {name: live(models[name]) for name in ("words", "bytes")}
    step = step_model(
        run(models["base"], tmp_path, teachers), build_student(run(models["base"], tmp_path, {}))
    )
    assert isinstance(step, Distillation)
    batch = collate_batch(encoded(step.student, 3), 0, step.readers)["batch"]
    assert list(batch.teachers) == list(batch.alignments) == ["bytes"]
    alignment = batch.alignments["bytes"]
    assert torch.equal(alignment.mask, batch.teacher_mode.cot.mask)
    assert torch.equal(alignment.covered, alignment.mask)
    torch.testing.assert_close(alignment.average.sum(-1), alignment.mask.float())


def test_a_stream_gives_its_place_along_with_the_batch(models: dict[str, Path], tmp_path: Path) -> None:
    """Six rows in batches of 2: batches of a data set as of a stream, of the same samples."""
    file = tmp_path / "rows.jsonl"
    write_jsonl(TASK.make(6, "train", 0), file)
    training = {"batch_size": 2, "output_dir": str(tmp_path / "run")}
    found = {}
    for streaming in (False, True):
        data = {"train": {"kind": "file", "path": str(file), "streaming": streaming, "limit": 6}}
        told = on({"name": str(models["base"])}, data=data, training=training)
        student = build_student(told)
        found[streaming] = training_data(told, Samples(told.data, student, tmp_path), Ranks())
    samples, batches = found[False]
    assert sorted(place for batch in batches for place in batch) == list(range(6))
    stream, order = found[True]
    assert isinstance(stream, Stream)
    assert len(order) == 3
    read = [collate_batch([stream[BatchIndex(0, number)]], 0, {}) for number in range(3)]
    assert {name for each in read for name in each["batch"].sample_ids} == {
        each.sample_id for each in samples
    }
    assert [each["place"].number for each in read] == [1, 2, 3]
    assert set(collate_batch(samples[:2], 0, {})) == {"batch"}


@pytest.mark.parametrize(("control", "least"), [("none", [2, 2, 1]), ("other_sample", [2, 3])])
def test_a_control_that_needs_a_partner_leaves_no_sample_alone(control: str, least: list[int]) -> None:
    data = {"train": {"kind": "synthetic", "num": 5, "task": {"names": 5, "steps": 2}}}
    told = config(data=data, training={"batch_size": 2}, target={"control": {"kind": control}})
    _, batches = training_data(told, Samples(told.data, build_student(told), Path()), Ranks())
    assert sorted(map(len, batches)) == sorted(least)


def test_readers_draw_by_the_epoch_of_the_sampler(models: dict[str, Path], tmp_path: Path) -> None:
    told = run(models["base"], tmp_path, {})
    samples = encoded(build_student(told), 6)
    chains = {question_key(each.example): (("Ann",), ("Ann", "Bob")) for each in samples}
    reader = Reader(word_tokenizer(TASK.words()), Plain(), text=SampledText(chains))
    _, sampler = training_data(told, Samples(told.data, build_student(told), tmp_path), Ranks())
    lengths = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        batch = collate_batch(samples, 0, {"a": reader}, sampler)["batch"]
        expected = [len(reading.cot.ids) for reading in reader.read([x.example for x in samples], epoch)]
        assert batch.read_by("a").cot.lengths.tolist() == expected
        lengths.append(expected)
    assert lengths[0] == lengths[2] != lengths[1]
