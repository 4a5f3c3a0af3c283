"""Counts by depth, by hand."""

from dataclasses import replace

import pico_trained
from kvdistill.evaluation.depth import count_by_depth
from kvdistill.evaluation.evaluate import Evaluator
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.schema import DepthCount
from kvdistill.text import Encoded


def deep(sample: Encoded, depth: int | None, steps: tuple[str, ...] = ()) -> Encoded:
    return replace(sample, example=replace(sample.example, depth=depth, steps=steps))


def test_questions_are_counted_by_depth_or_number_of_steps() -> None:
    sample = pico_trained.samples(pico_trained.student())[0]
    samples = [
        deep(sample, 3, ("a",)),  # what is said of the depth counts, not the steps
        deep(sample, 1),
        deep(sample, 3),
        deep(sample, None, ("a", "b", "c")),
        deep(sample, None),  # unknown
    ]
    counts = count_by_depth([True, False, True, False, True], samples)
    assert counts == {1: DepthCount(num=1, correct=0), 3: DepthCount(num=3, correct=2)}
    assert list(counts) == [1, 3] and counts[3].accuracy == 2 / 3
    assert count_by_depth([True], samples[4:]) is None


def test_an_evaluation_counts_by_depth(model: LatentReasoner, samples: tuple[Encoded, ...]) -> None:
    asked = [deep(sample, 1 + (index >= 10)) for index, sample in enumerate(samples)]
    asked[0] = replace(asked[0], example=replace(asked[0].example, answer="Nobody"))
    record, _ = Evaluator(batch_size=36, max_new_tokens=8, timed=0).evaluate(model, asked, "latent", "pairs")
    assert record.by_depth == {1: DepthCount(num=10, correct=9), 2: DepthCount(num=26, correct=26)}
