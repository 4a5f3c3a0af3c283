import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.losses.distance import elementwise, require_positive_beta


def test_by_hand() -> None:
    target, student = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([0.5, -3.0, 1.0])
    assert elementwise(target, student, "mse", 1.0).tolist() == [0.25, 9.0, 1.0]
    assert elementwise(target, student, "l1", 1.0).tolist() == [0.5, 3.0, 1.0]
    assert elementwise(target, student, "smooth_l1", 1.0).tolist() == [0.125, 2.5, 0.5]
    assert elementwise(target, student, "smooth_l1", 2.0).tolist() == [0.0625, 2.0, 0.25]


def test_gradients_flow_to_both_sides() -> None:
    for distance in ("mse", "l1", "smooth_l1"):
        target, student = torch.tensor([1.0], requires_grad=True), torch.tensor([3.0], requires_grad=True)
        elementwise(target, student, distance, 1.0).sum().backward()
        assert student.grad is not None and target.grad is not None
        assert (
            student.grad.item() == -target.grad.item() == {"mse": 4.0, "l1": 1.0, "smooth_l1": 1.0}[distance]
        )


@given(st.floats(0.1, 4.0), st.floats(-8.0, 8.0))
def test_smooth_l1_is_continuous_and_below_the_others(beta: float, gap: float) -> None:
    zero, other = torch.zeros(1, dtype=torch.float64), torch.tensor([gap], dtype=torch.float64)
    value = elementwise(zero, other, "smooth_l1", beta).item()
    assert value <= abs(gap) + 1e-12
    assert value <= gap * gap / (2 * beta) + 1e-12
    edge = elementwise(zero, torch.tensor([beta], dtype=torch.float64), "smooth_l1", beta).item()
    assert edge == pytest.approx(beta / 2)


def test_beta_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"beta is 0\.0.*set distance to 'l1'"):
        require_positive_beta(0.0)
