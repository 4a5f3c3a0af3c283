"""Cross-entropy of slots to the tokens of their step."""

import math

import pytest
import torch

from kvdistill.losses import StepCE
from kvdistill.losses.step_tokens import StepTokens
from pico_losses import reading, with_slots

STEPS = [[0, 0, 0, 1, 1], [0, 1, 2]]
IDS = [[3, 1, 4, 1, 5], [2, 6, 5]]


def test_by_hand() -> None:
    """Two slots of step 0 and step 1; logits 0 but for log 3 at token 1: probabilities 3/10 and 1/10."""
    logits = torch.zeros(1, 3, 8)
    logits[0, 2, 1] = math.log(3.0)
    output = StepCE()(with_slots(logits, reading([[4, 7, 1]], [[0, 0, 1]])))
    assert output.loss.item() == pytest.approx((math.log(8) + math.log(10 / 3)) / 2)
    assert output.metrics["step_ce_share"].item() == pytest.approx(2 / 3)
    assert output.metrics["step_ce_accuracy"].item() == 0.5
    last = StepCE(keep="last")(with_slots(logits, reading([[4, 7, 1]], [[0, 0, 1]])))
    assert last.loss.item() == pytest.approx(output.loss.item()), "token 7 is as likely as token 4"
    previous = StepCE(at="previous")(with_slots(logits, reading([[4, 7, 1]], [[0, 0, 1]])))
    assert previous.loss.item() == pytest.approx(math.log(8)), "<bot> and slot 0 know nothing"


@pytest.mark.parametrize(
    ("block", "keep", "slots", "expected"),
    [
        (1, "first", 2, [[0, None, None, 1, None], [0, 1, None]]),
        (1, "last", 2, [[None, None, 0, None, 1], [0, 1, None]]),
        (2, "first", 4, [[0, 1, None, 2, 3], [0, 2, None]]),
        (2, "last", 6, [[None, 0, 1, 2, 3], [0, 2, 4]]),
        (4, "first", 8, [[0, 1, 2, 4, 5], [0, 4, None]]),
    ],
)
def test_which_slot_predicts_which_token_by_hand(block, keep, slots, expected) -> None:
    tokens = StepTokens.of(reading(IDS, STEPS))
    slot, valid = StepCE(block=block, keep=keep).assign(tokens, slots)
    for sample, row in enumerate(expected):
        found = [int(slot[sample, i]) if valid[sample, i] else None for i in range(len(row))]
        assert found == row
    assert not valid[1, 3:].any()


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("at", ["slot", "previous"])
def test_equals_a_float64_loop_and_each_sample_alone(block: int, at: str) -> None:
    read, logits = reading(IDS, STEPS), torch.randn(2, 7, 9)
    loss = StepCE(block=block, at=at)
    expected = []
    for sample in range(2):
        terms = []
        for step in range(6 // block):
            tokens = [t for t, s in zip(IDS[sample], STEPS[sample], strict=True) if s == step][:block]
            for j, token in enumerate(tokens):
                column = step * block + j + (at == "slot")
                terms.append(-logits[sample, column].double().log_softmax(-1)[token])
        expected.append(torch.stack(terms).mean())
        alone = reading(IDS[sample : sample + 1], STEPS[sample : sample + 1])
        one = loss(with_slots(logits[sample : sample + 1], alone)).loss
        assert one.item() == pytest.approx(expected[-1].item(), rel=1e-5)
    together = loss(with_slots(logits, read)).loss
    assert together.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_the_gradient_reaches_the_slots_that_have_a_token() -> None:
    logits = torch.randn(1, 5, 9, requires_grad=True)
    StepCE(block=2)(with_slots(logits, reading([[3, 1, 4, 1]], [[0, 0, 0, 1]]))).loss.backward()
    assert logits.grad is not None
    assert [bool(row.any()) for row in logits.grad[0]] == [False, True, True, True, False]


def test_without_a_chain_of_thought_the_loss_is_zero() -> None:
    logits = torch.randn(2, 3, 9, requires_grad=True)
    output = StepCE()(with_slots(logits, reading([[], []], [[], []])))
    assert output.loss.item() == 0.0
    output.loss.backward()
    assert {name: float(value) for name, value in output.metrics.items()} == dict.fromkeys(
        output.metrics, 0.0
    )


def test_blocks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"latent\.slots is 4, which is no multiple of the block of 3"):
        StepCE(block=3)(with_slots(torch.zeros(1, 5, 9), reading([[1]], [[0]])))
    with pytest.raises(ValueError, match="at least 1 slot"):
        StepCE(block=0)
