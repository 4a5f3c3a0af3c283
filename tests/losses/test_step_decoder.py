"""An auxiliary decoder that writes each step from its slots."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from kvdistill.kv import SlotStates, TwoModes
from kvdistill.losses import LossInputs, Objective, StepDecoder, WeightedLoss
from kvdistill.losses.step_decoder import Decoder, step_texts
from kvdistill.text import ReaderBatch
from pico_losses import mode, reading

STEPS = [[0, 0, 0, 1, 1], [0, 1, 2]]
IDS = [[3, 1, 4, 1, 5], [2, 6, 5]]


def inputs_of(hidden: Tensor, read: ReaderBatch, module: nn.Module) -> LossInputs:
    student = replace(mode(len(hidden)), slots=SlotStates(hidden, torch.zeros(*hidden.shape[:2], 9)))
    return LossInputs(TwoModes(mode(len(hidden)), student), read=read, modules={"step_decoder": module})


class Fixed(nn.Module):
    """Says log-probabilities that depend on the first latent's first number alone."""

    def forward(self, latents: Tensor, ids: Tensor) -> Tensor:
        logits = torch.zeros(*ids.shape, 4)
        logits[..., 1] = latents[:, :1, 0]
        return logits


def test_by_hand() -> None:
    """Three tokens in two steps; token 1 has the logit log 3 after latent 0 and 0 after latent 1."""
    hidden = torch.zeros(1, 3, 2)
    hidden[0, 0, 0] = torch.tensor(3.0).log()
    output = StepDecoder()(inputs_of(hidden, reading([[1, 2, 1]], [[0, 0, 1]]), Fixed()))
    by_hand = (torch.tensor([2.0, 6.0, 4.0]).log()).mean()
    assert output.loss.item() == pytest.approx(by_hand.item())
    assert output.metrics["step_decoder_share"].item() == 1.0


def test_texts_by_hand() -> None:
    ids, mask = step_texts(reading(IDS, STEPS, "left"), 2)
    assert ids.tolist() == [[[3, 1, 4], [1, 5, 0]], [[2, 0, 0], [6, 0, 0]]]
    assert mask.sum(-1).tolist() == [[3, 2], [1, 1]]


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("at", ["slot", "previous"])
def test_equals_a_loop_over_steps_and_tokens(block: int, at: str) -> None:
    """Each step alone, each token from the text before it, without padding, in float64."""
    loss, hidden = StepDecoder(block=block, at=at, layers=1), torch.randn(2, 5, 8)
    module = loss.module(torch.randn(9, 8)).double()
    slow = []
    for sample in range(2):
        terms = []
        for step in range(4 // block):
            text = [t for t, s in zip(IDS[sample], STEPS[sample], strict=True) if s == step]
            first = step * block + (at == "slot")
            latents = hidden[sample, first : first + block].double()[None]
            for place in range(len(text)):
                states = torch.cat((latents, module.embedding[text[:place]][None]), 1)
                future = torch.ones(states.shape[1], states.shape[1], dtype=torch.bool).triu(1)
                state = module.norm(module.layers(states, mask=future))[0, -1]
                terms.append(-(module.embedding @ state).log_softmax(-1)[text[place]])
        slow.append(torch.stack(terms).mean())
    output = loss(inputs_of(hidden, reading(IDS, STEPS), module.float()))
    assert output.loss.item() == pytest.approx(torch.stack(slow).mean().item(), rel=1e-4)


def test_the_gradient_reaches_latents_and_decoder_but_not_the_students_embedding() -> None:
    hidden, embedding = torch.randn(1, 4, 8, requires_grad=True), torch.randn(9, 8, requires_grad=True)
    module = StepDecoder().module(embedding)
    StepDecoder()(inputs_of(hidden, reading([[3, 1, 4]], [[0, 0, 1]]), module)).loss.backward()
    assert hidden.grad is not None
    assert [bool(row.any()) for row in hidden.grad[0]] == [True, True, False, False]
    assert embedding.grad is None
    assert all(weight.grad is not None for weight in module.parameters())
    assert torch.equal(module.embedding, embedding)


def test_without_a_chain_of_thought_the_loss_is_zero() -> None:
    hidden = torch.randn(2, 3, 8, requires_grad=True)
    module = StepDecoder().module(torch.randn(9, 8))
    output = StepDecoder()(inputs_of(hidden, reading([[], []], [[], []]), module))
    assert output.loss.item() == 0.0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="is no multiple of 4 heads"):
        StepDecoder().module(torch.randn(9, 6))
    with pytest.raises(ValueError, match=r"latent\.slots is 3, which is no multiple of the block of 2"):
        StepDecoder(block=2)(inputs_of(torch.zeros(1, 4, 8), reading([[1]], [[0]]), Fixed()))
    with pytest.raises(ValueError, match="layers 0"):
        StepDecoder(layers=0)


def test_an_objective_makes_the_modules_of_its_terms() -> None:
    term = WeightedLoss(weight=1.0, loss=StepDecoder(layers=1))
    (module,) = Objective(extra=(term,)).modules(torch.randn(9, 8)).values()
    assert isinstance(module, Decoder)
    assert not Objective(extra=(replace(term, weight=0.0),)).modules(torch.randn(9, 8))
    with pytest.raises(ValueError, match="two further terms of one kind"):
        Objective(extra=(term, WeightedLoss(weight=1.0, loss=StepDecoder()))).modules(torch.randn(9, 8))
