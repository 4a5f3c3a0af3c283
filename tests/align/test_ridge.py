"""Ridge regression against torch's least squares on the data itself."""

import pytest
import torch

from kvdistill.align.moments import Moments
from kvdistill.align.ridge import fit_ridge


def moments(x: torch.Tensor, y: torch.Tensor) -> Moments:
    found = Moments(x.shape[1], y.shape[1])
    found.add(x, y)
    return found


def test_by_hand() -> None:
    """Variance 1, covariance 3, penalty 2: 3 / (1 + 2) = 1, the bias 5 - 1 * 2; condition 1."""
    data = moments(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [8.0]]))
    found = fit_ridge(data, data, (2.0,))
    assert (found.weight.item(), found.bias.item()) == pytest.approx((1, 3))
    assert (found.penalty, found.condition) == (2.0, 1.0)


def test_equal_to_lstsq_with_penalty_rows() -> None:
    x, y = (
        torch.randn(60, 5, dtype=torch.float64) * torch.tensor([1, 2, 3, 1, 5]) + 4,
        torch.randn(60, 3).double(),
    )
    penalty = 0.1
    data = moments(x, y)
    found = fit_ridge(data, data, (penalty,))
    # One row sqrt(n p v) per input makes least squares a ridge; the data is centered for the bias.
    centered = x - x.mean(0)
    rows = torch.eye(5).double() * (60 * penalty * centered.square().mean()).sqrt()
    solved = torch.linalg.lstsq(
        torch.cat((centered, rows)), torch.cat((y - y.mean(0), torch.zeros(5, 3).double()))
    )
    torch.testing.assert_close(found.weight.T, solved.solution)
    torch.testing.assert_close(found.bias, y.mean(0) - solved.solution.T @ x.mean(0))


def test_the_penalty_is_chosen_on_other_tokens() -> None:
    """Noise alone: any weight hurts, so the largest penalty is best; a true map wants the smallest."""
    x, other, weight = torch.randn(30, 20), torch.randn(500, 20), torch.randn(2, 20)
    grid = (1e-8, 1e-4, 1.0, 100.0)
    noise = fit_ridge(moments(x, torch.randn(30, 2)), moments(other, torch.randn(500, 2)), grid)
    exact = fit_ridge(moments(x, x @ weight.T), moments(other, other @ weight.T), grid)
    assert (noise.penalty, exact.penalty) == (100.0, 1e-8)


def test_inputs_that_are_constant_or_repeated_are_harmless() -> None:
    x = torch.randn(40, 1)
    y = 2 * x + 1
    found = fit_ridge(*[moments(torch.cat((x, x, torch.ones(40, 1)), -1), y)] * 2, (1e-8,))
    assert found.weight[0].tolist() == pytest.approx([1, 1, 0], abs=1e-5)
    constant = fit_ridge(*[moments(torch.ones(40, 2), y)] * 2, (1e-8,))
    assert constant.weight.abs().max() < 1e-6
    assert constant.bias.item() == pytest.approx(y.mean().item())
