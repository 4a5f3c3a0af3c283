"""Element-wise distances: mean squared error, L1 and smooth L1."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from kvdistill.ops import to_float32

Distance = Literal["mse", "l1", "smooth_l1"]


def elementwise(
    target: Float[Tensor, "*s"], student: Float[Tensor, "*s"], distance: Distance, beta: float
) -> Float[Tensor, "*s"]:
    """Distance of each pair of elements. Gradients flow to both sides.

    Args:
        target: Any shape.
        student: The same shape.
        distance: Which distance.
        beta: Absolute difference at which ``smooth_l1`` changes from ``d² / (2 beta)`` to ``|d| - beta / 2``;
            ignored by the others.

    Returns:
        The same shape, float32 or float64, not reduced.
    """
    # Squares of keys can overflow float16, and sums over them lose digits in bfloat16.
    target, student = to_float32(target), to_float32(student)
    if distance == "mse":
        return (target - student).square()
    if distance == "l1":
        return (target - student).abs()
    # PyTorch's order is (input, target); the distance is symmetric.
    return functional.smooth_l1_loss(student, target, reduction="none", beta=beta)


def require_positive_beta(beta: float) -> None:
    """Check the smooth-L1 threshold.

    Args:
        beta: Absolute difference at which ``smooth_l1`` changes from quadratic to linear.

    Raises:
        ValueError: if ``beta`` is 0 or less.
    """
    if beta <= 0:
        raise ValueError(
            f"beta is {beta}. The turning point of smooth_l1 must be above 0; for a plain L1 set distance "
            "to 'l1'."
        )
