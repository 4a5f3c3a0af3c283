"""Terms of a router: entropy both ways, load balance against collapse, competence; numbers by hand."""

import math

import pytest
import torch
from torch import Tensor

from kvdistill.fuse.entropy import EntropyTarget, agreement, entropy, entropy_loss, load_balance, route_ce


def descend(loss_of: object, logits: Tensor, steps: int = 40) -> Tensor:
    """The weights after some steps down a loss of them."""
    logits = logits.clone().requires_grad_()
    optimizer = torch.optim.SGD([logits], 2.0)
    for _ in range(steps):
        loss = loss_of(logits.softmax(-1))  # pyright: ignore
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logits.detach().softmax(-1)


def test_entropy_by_hand() -> None:
    weights = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
    # .25 log 4 + .75 log(4/3) = .562335
    torch.testing.assert_close(entropy(weights), torch.tensor([math.log(2), 0.0, 0.562335]))
    layers = torch.stack((weights[:1], weights[1:2]), 1)
    torch.testing.assert_close(entropy(layers), torch.tensor([math.log(2) / 2]))


@pytest.mark.parametrize(("target", "lower"), [("specialized", True), ("diverse", False)])
def test_the_entropy_goes_where_its_target_says(target: EntropyTarget, lower: bool) -> None:
    start = torch.tensor([[0.6, 0.0], [0.0, 0.3], [1.0, -1.0]])
    before, after = (
        entropy(weights).mean()
        for weights in (start.softmax(-1), descend(lambda w: entropy_loss(w, target), start))
    )
    assert (after < before - 0.1) if lower else (after > before + 0.02)


def test_entropy_losses_by_hand() -> None:
    weights = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    assert entropy_loss(weights, "specialized").item() == pytest.approx(0.5)
    assert entropy_loss(weights, "diverse").item() == pytest.approx(0.5)
    assert entropy_loss(weights, "none").item() == 0


def test_load_balance_counts_the_mean_and_not_each_sample() -> None:
    balanced = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    collapsed = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert load_balance(balanced).item() == pytest.approx(0, abs=1e-6)
    assert load_balance(collapsed).item() == pytest.approx(1)
    # Mean (.75, .25): 1 - .562335 / log 2
    uneven = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    assert load_balance(uneven).item() == pytest.approx(1 - 0.562335 / math.log(2), abs=1e-5)


def test_load_balance_of_two_processes_is_that_of_the_whole_batch() -> None:
    """Value and gradient: each process has half of the samples, and its gradient half of the weight."""
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.5], [0.0, 3.0], [0.3, 0.0]], requires_grad=True)
    whole = load_balance(logits.softmax(-1))
    (wanted,) = torch.autograd.grad(whole, logits)
    weights = logits.softmax(-1)
    totals = torch.cat((weights.sum(0), torch.tensor([4.0]))).detach()
    halves = [load_balance(half, lambda _: totals) for half in weights.split(2)]
    assert [half.item() for half in halves] == pytest.approx([whole.item()] * 2, abs=1e-6)
    (found,) = torch.autograd.grad((halves[0] + halves[1]) / 2, logits)
    torch.testing.assert_close(found, wanted)


def test_load_balance_keeps_specialists_from_collapsing() -> None:
    """Lower entropy alone sends all samples to the teacher that is ahead; with the balance both are used."""
    start = torch.tensor([[1.0, 0.0], [0.6, 0.0], [0.2, 0.0], [0.05, 0.0]])
    alone = descend(lambda w: entropy_loss(w, "specialized"), start, 200)
    both = descend(lambda w: entropy_loss(w, "specialized") + 4 * load_balance(w), start, 200)
    assert alone.mean(0)[1] < 0.1
    assert both.mean(0)[1] > 0.3
    # They specialize all the same.
    assert entropy(both).mean() < 0.5 * entropy(start.softmax(-1)).mean()


def test_load_balance_over_two_processes_is_that_of_one_batch() -> None:
    logits = torch.randn(6, 3, dtype=torch.float64)
    whole = logits.clone().requires_grad_()
    expected = load_balance(whole.softmax(-1))
    expected.backward()
    first, second = logits[:2].clone().requires_grad_(), logits[2:].clone().requires_grad_()
    sums = [
        torch.cat((part.softmax(-1).sum(0), torch.tensor([len(part)]))).detach() for part in (first, second)
    ]
    for part in (first, second):
        loss = load_balance(part.softmax(-1), lambda _: sums[0] + sums[1])
        torch.testing.assert_close(loss, expected)
        # As the trainer weighs it: by the process's share of the samples.
        (loss * len(part) / 6).backward()
    found = torch.cat((first.grad, second.grad))  # pyright: ignore
    torch.testing.assert_close(found, whole.grad)


def test_route_ce_and_agreement_by_hand() -> None:
    weights = torch.tensor([[0.5, 0.5], [0.8, 0.2]])
    competence = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    # (log 2 + .25 * -log .8 + .75 * -log .2) / 2
    expected = (math.log(2) - 0.25 * math.log(0.8) - 0.75 * math.log(0.2)) / 2
    assert route_ce(weights, competence).item() == pytest.approx(expected, abs=1e-6)
    assert agreement(torch.tensor([[0.6, 0.4], [0.8, 0.2]]), competence).item() == 0.5


def test_samples_without_teachers_or_figures_are_left_out() -> None:
    weights = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.9, 0.1]])
    competence = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert route_ce(weights, competence).item() == pytest.approx(math.log(2))
    assert agreement(weights, competence).item() == 1
    assert load_balance(weights[:2]).item() == pytest.approx(0, abs=1e-6)
    assert route_ce(weights[:2], torch.zeros(2, 2)).item() == 0
