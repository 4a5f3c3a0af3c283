"""Ridge regression from covariances, the penalty chosen on held-out tokens."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.align.moments import Moments


@dataclass(frozen=True, slots=True)
class RidgeFit:
    """An affine map and how it was found, in float64."""

    weight: Float[Tensor, "o i"]
    bias: Float[Tensor, " o"]
    penalty: float
    """Relative to the mean variance of the inputs."""
    condition: float
    """Condition number of the penalized covariance of the inputs."""


def fit_ridge(fit: Moments, choose: Moments, penalties: tuple[float, ...]) -> RidgeFit:
    """Solve for every penalty and keep the map with the least error on other tokens.

    ``W = cov(y, x) (cov(x) + p v I)^-1`` with penalty p and v the mean variance of the inputs; the bias is
    not penalized.

    Args:
        fit: Moments of the tokens to fit.
        choose: Moments of other tokens, on which the penalty is chosen.
        penalties: The grid, one or more numbers above 0.

    Returns:
        The chosen map.

    Source: https://doi.org/10.1080/00401706.1970.10488634, equation 2.2.
    """
    inputs, cross = fit.covariance()
    # One decomposition serves all penalties; rounding can leave an eigenvalue below 0.
    values, vectors = torch.linalg.eigh(inputs)
    values = values.clamp_min(0)
    rotated = vectors.T @ cross
    # Constant inputs have no scale; any penalty above 0 gives them the weight 0.
    scale = values.mean().clamp_min(torch.finfo(values.dtype).tiny)
    found: list[tuple[float, RidgeFit]] = []
    for penalty in penalties:
        penalized = values + penalty * scale
        weight = (vectors @ (rotated / penalized[:, None])).T
        bias = fit.y / fit.count - weight @ (fit.x / fit.count)
        condition = float(penalized[-1] / penalized[0])
        error = float(choose.error(weight, bias))
        found.append((error, RidgeFit(weight, bias, penalty, condition)))
    # Of equal errors the first penalty.
    return min(found, key=lambda pair: pair[0])[1]
