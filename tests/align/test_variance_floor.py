"""The variance floor by hand, and over two processes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kvdistill.align.variance_floor import Moments, variance_floor
from kvdistill.kv import ModelKV
from pico_align import cache, geometry, layer_kv

SHAPE = geometry(2, 2, 3, 4)


def scalars(values: list[float]) -> ModelKV:
    states = torch.tensor(values)[None, None, :, None]
    return ModelKV((layer_kv(states, states),), (0,), "scalars")


def rows(kv: ModelKV, start: int, stop: int) -> ModelKV:
    """Some samples of a cache, in its graph."""
    return kv.map(tuple(layer.map_slots(lambda tensor: tensor[start:stop]) for layer in kv.layers))


def test_the_floor_by_hand() -> None:
    """Own values -1 and 1: a standard deviation of 1. Moved ones of -.25 and .25 lack three quarters."""
    own = scalars([-1.0, 1.0])
    for moved, lacks in (([-0.25, 0.25], 0.75), ([5.0, 5.0], 1.0), ([-3.0, 3.0], 0.0), ([4.0, 6.0], 0.0)):
        assert variance_floor(scalars(moved), own).item() == pytest.approx(lacks, abs=2e-3)
    assert variance_floor(scalars([1.0]), scalars([2.0])).item() == 0


def test_moments_by_hand() -> None:
    """Two tokens of one head and two channels, a third that is padding."""
    states = torch.tensor([[[[1.0, 1000.0], [3.0, 1001.0], [torch.nan, 7.0]]]])
    found = Moments.of(states, torch.tensor([[True, True, False]]))
    assert found.count == 2
    assert found.sums.tolist() == [4, 2001]
    assert found.squares.tolist() == [10, 2_002_001]
    # A large mean does not hide a small spread.
    assert found.variance().tolist() == pytest.approx([1, 0.25])


@pytest.mark.parametrize("split", [1, 3])
def test_two_processes_give_value_and_gradient_of_one_batch(split: int) -> None:
    """Samples of unlike lengths, divided unevenly; the trainer weighs a loss by its share of the samples."""
    mask = torch.arange(5)[None] < torch.tensor([5, 2, 4, 3, 1])[:, None]
    own, given = cache(SHAPE, 5, 5, mask), cache(SHAPE, 5, 5, mask)
    map_of = 0.3 * torch.randn(4, 4)

    def moved(weight: Tensor) -> ModelKV:
        # A linear map of the channels whose gradient is compared; values are four wide, keys three.
        layers = []
        for layer in given.layers:
            layers.append(layer.replace(keys=layer.keys @ weight[:3, :3] + 2, values=layer.values @ weight))
        return given.map(tuple(layers))

    whole = map_of.clone().requires_grad_()
    expected = variance_floor(moved(whole), own)
    expected.backward()
    parts, sent = [(0, split), (split, 5)], []

    def send(values: Tensor) -> Tensor:
        sent.append(values)
        return values

    for part in parts:
        variance_floor(rows(moved(map_of), *part), rows(own, *part), send)
    total: Callable[[Tensor], Tensor] = lambda _: sent[0] + sent[1]  # noqa: E731
    gradient = torch.zeros(4, 4)
    for start, stop in parts:
        weight = map_of.clone().requires_grad_()
        loss = variance_floor(rows(moved(weight), start, stop), rows(own, start, stop), total)
        torch.testing.assert_close(loss, expected)
        (loss * (stop - start) / 5).backward()
        gradient += weight.grad  # pyright: ignore[reportOperatorIssue]
    assert whole.grad is not None
    assert whole.grad.abs().max() > 0.01
    torch.testing.assert_close(gradient, whole.grad, rtol=1e-4, atol=1e-6)


def test_a_process_without_tokens_takes_part() -> None:
    """All of its samples are padding; the other has two tokens."""
    own, moved = scalars([-1.0, 1.0]), scalars([-0.5, 0.5])
    sent: list[Tensor] = []
    variance_floor(moved, own, lambda values: sent.append(values) or values)
    none = own.map(tuple(layer.replace(mask=torch.zeros_like(layer.mask)) for layer in own.layers))
    found = variance_floor(none, own, lambda values: sent[0] + values)
    assert found.item() == pytest.approx(0.5, abs=1e-5)
