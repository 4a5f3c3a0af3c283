"""Slots against weighted mixes of the tokens of their spans."""

import math

import pytest
import torch

from kvdistill.losses import Mux
from pico_losses import reading, with_slots

STEPS = [[0, 0, 0, 1, 1], [0, 1, 2]]
IDS = [[3, 1, 4, 1, 5], [2, 6, 5]]


def test_by_hand() -> None:
    """One slot, tokens 3, 1, 3 at decay 0.5: weights 4/7, 2/7, 1/7, so 5/7 on token 3 and 2/7 on token 1;
    against a uniform distribution over 4 tokens.
    """
    loss = Mux(decay=0.5)
    read = reading([[3, 1, 3]], [[0, 0, 0]])
    assert loss.mix(read, 1, 4)[0, 0].tolist() == pytest.approx([0, 2 / 7, 0, 5 / 7])
    by_hand = 5 / 7 * math.log(5 / 7) + 2 / 7 * math.log(2 / 7) + math.log(4)
    output = loss(with_slots(torch.zeros(1, 2, 4), read))
    assert output.loss.item() == pytest.approx(by_hand)
    assert output.metrics["mux"].item() == pytest.approx(by_hand)


def test_a_slot_that_predicts_its_mix_has_no_loss() -> None:
    read = reading(IDS, STEPS)
    mix = Mux().mix(read, 2, 9)
    logits = torch.cat((mix.clamp_min(1e-30).log(), torch.zeros(2, 1, 9)), 1)
    assert Mux()(with_slots(logits, read)).loss.item() == pytest.approx(0.0, abs=1e-6)
    assert Mux(at="slot")(with_slots(logits.roll(1, 1), read)).loss.item() == pytest.approx(0.0, abs=1e-6)
    hot = with_slots(2 * logits, read)
    assert Mux(temperature=2.0)(hot).loss.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("spans", "slots", "expected"),
    [
        ("even", 2, [[0, 0, 0, 1, 1], [0, 0, 1]]),
        ("even", 5, [[0, 1, 2, 3, 4], [0, 1, 3]]),
        ("step", 3, [[0, 0, 0, 1, 1], [0, 1, 2]]),
        ("step", 2, [[0, 0, 0, 1, 1], [0, 1, 1]]),
    ],
)
def test_spans_by_hand(spans, slots, expected) -> None:
    cut = Mux(spans=spans).cut(reading(IDS, STEPS), slots)
    assert [row[: len(e)].tolist() for row, e in zip(cut, expected, strict=True)] == expected


@pytest.mark.parametrize("side", ["right", "left"])
def test_random_cuts_use_every_slot_and_keep_the_order(side: str) -> None:
    read = reading(IDS, STEPS, side)
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        cut = Mux(spans="random").cut(read, 3)
        spans = [tuple(row[mask].tolist()) for row, mask in zip(cut, read.cot.mask, strict=True)]
        assert spans[1] == (0, 1, 2), "three tokens for three slots"
        assert sorted(spans[0]) == list(spans[0])
        assert set(spans[0]) == {0, 1, 2}
        seen.add(spans[0])
    assert len(seen) > 3, "of the 6 ways to cut five tokens twice"


@pytest.mark.parametrize("spans", ["even", "step"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_equals_a_float64_loop_and_each_sample_alone(spans: str, side: str) -> None:
    logits, loss = torch.randn(2, 5, 9), Mux(spans=spans, decay=0.7, temperature=1.5)
    expected = []
    for sample in range(2):
        one = reading(IDS[sample : sample + 1], STEPS[sample : sample + 1])
        slots, terms = loss.cut(one, 4)[0].tolist(), []
        for slot in sorted(set(slots)):
            span = [t for t, s in zip(IDS[sample], slots, strict=True) if s == slot]
            target = torch.zeros(9, dtype=torch.float64)
            for j, token in enumerate(span):
                target[token] += 0.7**j / sum(0.7**i for i in range(len(span)))
            log_p = (logits[sample, slot].double() / 1.5).log_softmax(-1)
            terms.append(sum(t * (math.log(t) - p) for t, p in zip(target, log_p, strict=True) if t > 0))
        expected.append(float(sum(terms)) / len(terms))
        alone = loss(with_slots(logits[sample : sample + 1], one)).loss
        assert alone.item() == pytest.approx(expected[-1], rel=1e-5)
    together = loss(with_slots(logits, reading(IDS, STEPS, side))).loss
    assert together.item() == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_the_gradient_reaches_the_slots_that_have_a_span() -> None:
    logits = torch.randn(1, 4, 9, requires_grad=True)
    Mux()(with_slots(logits, reading([[3, 1]], [[0, 0]]))).loss.backward()
    assert logits.grad is not None
    assert [bool(row.any()) for row in logits.grad[0]] == [True, True, False, False]


def test_without_a_chain_of_thought_the_loss_is_zero() -> None:
    logits = torch.randn(2, 3, 9, requires_grad=True)
    for spans in ("even", "step", "random"):
        output = Mux(spans=spans)(with_slots(logits, reading([[], []], [[], []])))
        assert output.loss.item() == 0.0
        output.loss.backward()


def test_settings_without_a_distribution_are_refused() -> None:
    for settings, message in (({"decay": 0.0}, "decay is 0"), ({"temperature": 0.0}, "temperature is 0")):
        with pytest.raises(ValueError, match=message):
            Mux(**settings)
