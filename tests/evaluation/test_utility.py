"""Target utility of a trained student, whose answers can only come out of its slots."""

import math

import pytest
import torch

import pico_trained
from kvdistill.compress import StepEnd
from kvdistill.data.collate import Side, collate
from kvdistill.evaluation.evaluate import Evaluator
from kvdistill.evaluation.utility import controlled, own_latents, own_target, target_utility
from kvdistill.kv import ModelKV
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.target import MeanTarget, OtherSample
from kvdistill.text import Batch, Encoded

LIMIT = 4


def test_the_own_latents_are_worth_the_ordinary_answers(
    model: LatentReasoner, samples: tuple[Encoded, ...]
) -> None:
    ask = Evaluator(batch_size=36, max_new_tokens=LIMIT, timed=0)
    record, _ = ask.evaluate(model, samples, "latent", "pairs")
    found = target_utility(model, samples, {"latents": own_latents(model)}, max_new_tokens=LIMIT)[0]
    assert (found.target, found.num, found.correct, found.chance) == ("latents", 36, 36, 1 / 6)
    assert record.correct == 36
    expected = (record.nats, record.nats_low, record.nats_high, record.low, record.high)
    measured = (found.nats, found.nats_low, found.nats_high, found.low, found.high)
    assert measured == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_the_target_answers_and_that_of_another_sample_does_not(
    model: LatentReasoner, samples: tuple[Encoded, ...]
) -> None:
    target = own_target(model, StepEnd())
    targets = {
        "own": target,
        "other": controlled(target, OtherSample()),
        "mean": controlled(target, MeanTarget()),
    }
    own, other, mean = target_utility(model, samples, targets, batch_size=36, max_new_tokens=LIMIT)
    assert own.accuracy == 1.0
    # Not of the same chain, but of one that may end in the same name.
    assert other.accuracy <= 0.5 and other.nats < own.nats - 1
    # One answer for all questions, right for one name of six.
    assert mean.accuracy == 1 / 6 and mean.nats < own.nats - 1


def test_a_target_by_hand(model: LatentReasoner, samples: tuple[Encoded, ...]) -> None:
    """Every question gets the target of the first, which answers Ann: right where the answer is Ann."""
    target = own_target(model, StepEnd())
    first = target(collate(samples[:1], 0))

    def same_for_all(batch: Batch) -> ModelKV:
        return first.map(
            tuple(layer.map_slots(lambda t: t.expand(len(batch), *t.shape[1:])) for layer in first.layers)
        )

    found = target_utility(model, samples, {"first": same_for_all}, max_new_tokens=LIMIT)[0]
    assert (found.correct, found.num) == (6, 36)
    # Its log-probability is that of Ann where Ann is right, and far lower elsewhere.
    alone = target_utility(model, samples[:1], {"own": target}, max_new_tokens=LIMIT)[0]
    right = target_utility(model, samples[:6], {"first": same_for_all}, max_new_tokens=LIMIT)[0]
    assert {sample.example.answer for sample in samples[:6]} == {"Ann"}
    assert right.nats == pytest.approx(alone.nats, abs=1e-4)
    assert math.exp(alone.nats) > 0.5 > math.exp(found.nats)


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_and_padding_change_nothing(
    model: LatentReasoner, samples: tuple[Encoded, ...], side: Side
) -> None:
    targets = {"own": own_target(model, StepEnd())}
    together = target_utility(model, samples[:5], targets, 8, LIMIT)[0]
    apart = target_utility(
        model, samples[:5], targets, 2, LIMIT, lambda some: collate(some, 0, padding_side=side)
    )[0]
    assert apart.correct == together.correct
    assert (apart.nats, apart.nats_low) == pytest.approx((together.nats, together.nats_low), abs=1e-5)


def test_no_question_is_alone_in_its_batch(model: LatentReasoner, samples: tuple[Encoded, ...]) -> None:
    """Five questions in batches of two would leave one without another sample."""
    other = {"other": controlled(own_target(model, StepEnd()), OtherSample())}
    assert target_utility(model, samples[:5], other, 2, LIMIT)[0].num == 5
    with pytest.raises(ValueError, match="a batch of one has no other sample"):
        target_utility(model, samples[:1], other, 2, LIMIT)


def test_the_student_stays_in_its_mode_and_without_gradient(samples: tuple[Encoded, ...]) -> None:
    model = pico_trained.student().train()
    modes = []

    def watched(batch: Batch) -> ModelKV:
        modes.append((model.training, torch.is_grad_enabled()))
        return own_latents(model)(batch)

    target_utility(model, samples[:2], {"latents": watched}, max_new_tokens=1)
    assert modes == [(False, False)] and model.training


def test_without_questions_it_is_refused(model: LatentReasoner) -> None:
    with pytest.raises(ValueError, match="no question to measure the utility of targets on"):
        target_utility(model, [], {"latents": own_latents(model)})
