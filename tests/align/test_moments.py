"""Moments by hand, and the error of a map without its data."""

import pytest
import torch

from kvdistill.align.moments import FIELDS, Moments


def test_by_hand() -> None:
    """x = 1, 3 and y = 2, 8: means 2 and 5, variances 1 and 9, covariance 3."""
    moments = Moments(1, 1)
    moments.add(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [8.0]]))
    inputs, cross = moments.covariance()
    assert (moments.count.item(), inputs.item(), cross.item(), moments.variance().item()) == (2, 1, 3, 9)
    # y = 3 x - 1 is exact; y = 3 x is off by 1 everywhere; y = 5 is the variance.
    for weight, bias, error in ((3.0, -1.0, 0), (3.0, 0.0, 1), (0.0, 5.0, 9)):
        assert moments.error(torch.tensor([[weight]]), torch.tensor([bias])).item() == error


def test_error_is_that_on_the_data() -> None:
    x, y = torch.randn(50, 4) + 3, torch.randn(50, 3) - 2
    weight, bias = torch.randn(3, 4), torch.randn(3)
    moments = Moments(4, 3)
    moments.add(x[:20], y[:20])
    moments.add(x[20:].bfloat16().float(), y[20:])
    x[20:] = x[20:].bfloat16().float()
    wanted = (y - x @ weight.T - bias).double().square().sum(-1).mean()
    torch.testing.assert_close(moments.error(weight, bias), wanted, rtol=1e-5, atol=0)
    torch.testing.assert_close(moments.variance(), y.double().var(0, correction=0))


def test_all_reduce_sums_everything() -> None:
    moments = Moments(2, 3)
    moments.add(torch.randn(4, 2), torch.randn(4, 3))
    before = {name: getattr(moments, name).clone() for name in FIELDS}
    moments.all_reduce(lambda tensor: 2 * tensor)
    assert all(torch.equal(getattr(moments, name), 2 * before[name]) for name in FIELDS)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3)])
def test_memory_is_known_beforehand(shape: tuple[int, int]) -> None:
    moments = Moments(*shape)
    assert Moments.bytes_needed(*shape) == sum(getattr(moments, name).nbytes for name in FIELDS)
    assert {name for name, value in vars(moments).items() if isinstance(value, torch.Tensor)} == set(FIELDS)
