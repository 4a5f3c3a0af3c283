"""``example.json``: the one test question that the report of a run shows, with its slots and answers."""

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
    """Write ``example.json``: one test question, answered in every mode that the run is evaluated in.

    Args:
        config: the run's configuration.
        model: the trained student.
        questions: the encoded test set.
        folder: the run folder; an older ``example.json`` in it is removed.

    Returns:
        The record; None, and no file, where there is no test set or no trained latent mode to show.
    """
    (folder / NAME).unlink(missing_ok=True)
    if not questions or "latent" not in config.evaluation.modes or not model.config.latents_trained:
        return None
    sample = questions[chosen(questions)]
    evaluator = Evaluator(batch_size=1, max_new_tokens=config.evaluation.max_new_tokens, timed=0)
    answers = [answer_of(model, sample, mode, evaluator, mode) for mode in config.evaluation.modes]
    record = replace(example_of(model, sample, _task(config), "test"), answers=answers)
    record.write(folder / NAME)
    return record


def _task(config: RunConfig) -> str:
    """One sentence on what the test set asks."""
    data = config.data.test
    if data is None:
        return ""
    if data.kind == "synthetic":
        return data.task.sentence
    if data.kind == "file":
        return f"A question of {data.path}."
    return f"A question of {data.name}."
