"""Orthogonal maps by hand, and what they keep."""

import pytest
import torch
from torch import Tensor

from kvdistill.align.moments import Moments
from kvdistill.align.procrustes import fit_procrustes


def moments(x: Tensor, y: Tensor) -> Moments:
    found = Moments(x.shape[1], y.shape[1])
    found.add(x, y)
    return found


def test_a_quarter_turn_is_found_with_scale_and_offset() -> None:
    """Points (1, 0), (-1, 0), (0, 1), (0, -1) turned by 90 degrees, doubled and moved by (5, 7)."""
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    turn = torch.tensor([[0.0, -2.0], [2.0, 0.0]])
    weight, bias = fit_procrustes(moments(x, x @ turn.T + torch.tensor([5.0, 7.0])))
    torch.testing.assert_close(weight, turn.double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(bias, torch.tensor([5.0, 7.0]).double())


@pytest.mark.parametrize("outputs", [4, 6])
def test_no_direction_is_lost_where_tokens_span_few(outputs: int) -> None:
    """Inputs in two of four directions: the other two are scaled like them."""
    x = torch.randn(50, 2) @ torch.randn(2, 4)
    weight, _ = fit_procrustes(moments(x, x @ torch.randn(4, outputs)))
    gram = weight.T @ weight
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(4, dtype=torch.float64), atol=1e-8, rtol=0)


def test_fewer_outputs_have_the_variance_of_the_targets() -> None:
    x, y = torch.randn(500, 5), torch.randn(500, 3)
    weight, bias = fit_procrustes(moments(x, y))
    image = x.double() @ weight.T + bias
    assert image.var(0, correction=0).sum().item() == pytest.approx(y.var(0, correction=0).sum().item())
    gram = weight @ weight.T
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(3, dtype=torch.float64), atol=1e-8, rtol=0)
