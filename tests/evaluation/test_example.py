"""The example is chosen by its length alone, and read from the model itself."""

from dataclasses import replace

import pytest

import pico_tokenizer
import pico_trained
from kvdistill.data import Chain, encode_all
from kvdistill.evaluation.evaluate import Evaluator, chance_of
from kvdistill.evaluation.example import RULE, answer_of, chosen, example_of


def test_the_first_of_the_longest_chains_is_chosen() -> None:
    samples = list(pico_trained.samples(pico_trained.wild())[:4])
    for place in (1, 3):
        samples[place] = replace(
            samples[place], example=replace(samples[place].example, steps=("a", "b", "c"))
        )
    assert chosen(samples) == 1
    with pytest.raises(ValueError, match="no question to show"):
        chosen([])


def test_a_student_that_reasons_in_its_slots_says_so() -> None:
    model = pico_trained.trained()
    sample = pico_trained.samples(model)[1]
    record = example_of(model, sample, "Say the first.", "test")
    assert [slot.words[0] for slot in record.slots] == list(sample.example.steps) == record.results
    assert (
        record.matches == [True, True] and record.rule == RULE and record.question == sample.example.question
    )
    for slot in record.slots:
        assert (
            len(slot.words) == 3
            and slot.probabilities == sorted(slot.probabilities, reverse=True)
            and sum(slot.probabilities) <= 1.0001
        )
    answer = answer_of(model, sample, "latent", Evaluator(batch_size=1, max_new_tokens=4, timed=0), "rkv")
    assert (answer.method, answer.answer, answer.right) == ("rkv", sample.example.answer, True)


def test_chance_is_the_share_of_the_most_frequent_answer() -> None:
    samples = pico_trained.samples(pico_trained.wild())
    assert chance_of(samples) == 1 / 6  # six names, six questions each
    assert chance_of([samples[0], samples[0], samples[-1]]) == pytest.approx(2 / 3)


def test_among_padded_traces_the_deepest_question_is_shown() -> None:
    """All traces have four steps; the depths of the first questions are 1, 1, 2, 2, 3, 3, 4, 4."""
    examples = Chain(steps=(1, 4), pad=True).make(8, "test", 0)
    samples = encode_all(examples, pico_tokenizer.word_level(Chain().words())).samples
    assert chosen(samples) == 6
