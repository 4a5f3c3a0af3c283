"""The feedback, by hand."""

import math

import pytest
import torch

import pico
from kvdistill.latent.feedback import Feedback, latent_inputs, new_feedback


def test_by_hand() -> None:
    """Up by one, down by one: GELU(3) = 2.9960 and GELU(0) = 0, which the norm turns to 1 and -1, times its
    start.
    """
    feedback = Feedback(2)
    with torch.no_grad():
        feedback.up.weight.copy_(torch.eye(2))
        feedback.down.weight.copy_(torch.eye(2))
        feedback.up.bias.zero_()
        feedback.down.bias.zero_()
        feedback.start_at(0.25)
        assert feedback(torch.tensor([[[3.0, 0.0]]])).flatten().tolist() == pytest.approx(
            [0.25, -0.25], abs=1e-5
        )
        feedback.norm.bias.fill_(1.0)
        feedback.norm.weight.fill_(2.0)
        assert feedback(torch.tensor([[[0.0, 3.0]]])).flatten().tolist() == pytest.approx(
            [-1.0, 3.0], abs=1e-4
        )


def test_gelu_is_exact_by_hand() -> None:
    """GELU(1) = Φ(1) = (1 + erf(1/√2)) / 2 = 0.8413, GELU(-1) = -0.1587: read off before the norm."""
    seen: list[torch.Tensor] = []
    feedback = Feedback(2)
    with torch.no_grad():
        feedback.up.weight.copy_(torch.eye(2))
        feedback.up.bias.zero_()
    feedback.down.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    feedback(torch.tensor([[[1.0, -1.0]]]))
    phi = (1 + math.erf(1 / math.sqrt(2))) / 2
    assert seen[0].flatten().tolist() == pytest.approx([phi, phi - 1], abs=1e-6)


@pytest.mark.parametrize("std", [0.02, 0.3])
def test_it_starts_at_the_spread_it_is_given(std: float) -> None:
    feedback = Feedback(64)
    feedback.start_at(std)
    out = feedback(50 * torch.randn(4, 9, 64)).detach()
    assert float(out.std()) == pytest.approx(std, rel=1e-2)
    assert float(out.mean().abs()) < 1e-6


def test_add_puts_the_placeholder_under_the_state_by_hand() -> None:
    """A state of 2 on an embedding of 0.5 is 2.5; the other kinds leave the embedding out."""
    states = torch.full((2, 3, 32), 2.0)
    inputs = {}
    for kind in ("add", "none"):
        model = pico.reasoner(slots=3, passes=1, feedback=kind)
        with torch.no_grad():
            model.backbone.get_input_embeddings().weight[model.special.latent] = 0.5
        inputs[kind] = latent_inputs(model, states)
    assert torch.equal(inputs["add"], torch.full((2, 3, 32), 2.5))
    assert inputs["none"] is states
    assert not list(new_feedback("add", 8).parameters())
