"""The question that the report of a run shows, with its slots and answers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kvdistill.config import RunConfig
from kvdistill.evaluation.evaluate import Evaluator
from kvdistill.evaluation.example import answer_of, chosen, example_of
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.example import ExampleRecord
from kvdistill.text import Encoded

NAME = "example.json"


def write_example(
    config: RunConfig, model: LatentReasoner, questions: Sequence[Encoded], folder: Path
) -> ExampleRecord | None:
    """Write ``example.json`` of a run: one test question, answered in every mode that the run is evaluated
    in.

    None, and no file, where the student has no latent slots to show or the run has no test set.
    """
    (folder / NAME).unlink(missing_ok=True)
    if not questions or "latent" not in config.evaluation.modes or not model.config.taught:
        return None
    sample = questions[chosen(questions)]
    evaluator = Evaluator(batch_size=1, max_new_tokens=config.evaluation.max_new_tokens, timed=0)
    answers = [answer_of(model, sample, mode, evaluator, mode) for mode in config.evaluation.modes]
    record = replace(example_of(model, sample, _task(config), "test"), answers=answers)
    record.write(folder / NAME)
    return record


def _task(config: RunConfig) -> str:
    """What the test set asks, in one sentence."""
    data = config.data.test
    if data is None or data.kind == "synthetic":
        return "" if data is None else data.task.sentence
    return f"A question of {data.path if data.kind == 'file' else data.name}."
