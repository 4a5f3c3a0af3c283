"""A run with latent slots and a test set leaves its example; another leaves none."""

from pathlib import Path

import pico_trained
from kvdistill.commands.demo.recipe import VERBOSE, Stage
from kvdistill.records.example import ExampleRecord
from kvdistill.run.example import write_example


def test_the_example_of_a_run_and_none_without_questions(tmp_path: Path) -> None:
    config = Stage("run", VERBOSE, 1).config(tmp_path, None, 0)
    test = config.data.train.model_copy(update={"split": "test"})
    config = config.model_copy(update={"data": config.data.model_copy(update={"test": test})})
    config = config.model_copy(
        update={"evaluation": config.evaluation.model_copy(update={"modes": ("latent", "cot")})}
    )
    model = pico_trained.trained()
    model.config.latents_trained = True
    record = write_example(config, model, pico_trained.samples(model), tmp_path)
    assert record == ExampleRecord.read(tmp_path / "example.json")
    assert record is not None and [answer.method for answer in record.answers] == ["latent", "cot"]
    assert record.task == "A parcel goes around a circle of 8 people: who holds it after 1 to 4 hand-overs?"
    assert write_example(config, model, (), tmp_path) is None and not (tmp_path / "example.json").exists()
