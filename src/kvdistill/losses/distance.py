"""The element-wise distances that the losses share."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from kvdistill.ops import to_float32

Distance = Literal["mse", "l1", "smooth_l1"]


def elementwise(
    target: Float[Tensor, "*s"], student: Float[Tensor, "*s"], distance: Distance, beta: float
) -> Float[Tensor, "*s"]:
    """Distance of each pair of numbers; gradients flow to both sides.

    ``beta`` is where ``smooth_l1`` turns from ``d² / (2 beta)`` into ``|d| - beta / 2``; the others do not
    read it.
    """
    target, student = to_float32(target), to_float32(student)
    if distance == "mse":
        return (target - student).square()
    if distance == "l1":
        return (target - student).abs()
    return functional.smooth_l1_loss(student, target, reduction="none", beta=beta)


def require_positive_beta(beta: float) -> None:
    """Refuse a smooth-L1 turning point that is not above 0.

    Raises:
        ValueError: if ``beta`` is 0 or less.
    """
    if beta <= 0:
        raise ValueError(
            f"beta is {beta}. The turning point of smooth_l1 must be above 0; for a plain L1 set distance "
            "to 'l1'."
        )
