"""Routers: equal weights at the start, sums, layers, learning, and a number by hand for each."""

import math

import pytest
import torch

from kvdistill.fuse.routers import (
    AttentionRouter,
    GateRouter,
    KeyRouter,
    MLPRouter,
    RouterMethod,
    RouterShape,
    SigmoidRouter,
    SoftmaxRouter,
)

METHODS: list[RouterMethod] = [MLPRouter(hidden=8), GateRouter(hidden=8), AttentionRouter(heads=2, width=4)]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
@pytest.mark.parametrize("layers", [None, 3])
def test_weights_start_even_and_sum_to_one(method: RouterMethod, layers: int | None) -> None:
    torch.manual_seed(0)
    router = method.module(RouterShape(5, 4, layers), 1.0)
    weights = router(torch.randn(6, 5))
    expected = (6, 4)
    if layers is not None:
        expected = (6, layers, 4)
    assert weights.shape == expected
    torch.testing.assert_close(weights.sum(-1), torch.ones(expected[:-1]))
    torch.testing.assert_close(weights, torch.full(expected, 0.25), atol=0.02, rtol=0)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
def test_a_router_learns_which_teacher_a_question_needs(method: RouterMethod) -> None:
    torch.manual_seed(0)
    router = method.module(RouterShape(4, 2), 1.0)
    query = torch.randn(64, 4)
    best = (query[:, 0] > 0).long()
    optimizer = torch.optim.Adam(router.parameters(), 0.02)
    for _ in range(60):
        loss = -router(query).gather(1, best[:, None]).log().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new = torch.randn(64, 4)
    right = router(new).argmax(-1) == (new[:, 0] > 0)
    assert right.float().mean() > 0.85


@torch.no_grad()
def test_softmax_and_gates_by_hand() -> None:
    for router, expected in (
        (SoftmaxRouter(RouterShape(1, 2), 2.0, 1), 1 / (1 + math.exp(-1))),
        (SigmoidRouter(RouterShape(1, 2), 2.0, 1), 0.731058 / (0.731058 + 0.5)),
    ):
        # Logits (2, 0) over the temperature: softmax(1, 0), and the sigmoids of 1 and 0.
        router.network[2].bias.copy_(torch.tensor([2.0, 0.0]))  # pyright: ignore
        weights = router(torch.zeros(1, 1))
        assert weights[0, 0].item() == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_attention_by_hand() -> None:
    router = KeyRouter(RouterShape(1, 2), 1.0, heads=2, width=1)
    router.query.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    router.query.bias.zero_()
    router.keys.copy_(torch.tensor([[[2.0], [0.0]], [[0.0], [0.0]]]))
    # Head 1: softmax(2, 0); head 2: softmax(0, 0).
    expected = (1 / (1 + math.exp(-2)) + 0.5) / 2
    assert router(torch.ones(1, 1))[0, 0].item() == pytest.approx(expected)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden is 0"):
        MLPRouter(hidden=0)
    with pytest.raises(ValueError, match="heads is 0"):
        AttentionRouter(heads=0)
