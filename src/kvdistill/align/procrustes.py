"""Orthogonal Procrustes: the map between two caches that keeps lengths and angles."""

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.align.moments import Moments


def fit_procrustes(fit: Moments) -> tuple[Float[Tensor, "o i"], Float[Tensor, " o"]]:
    """The orthogonal matrix nearest to a linear fit, scaled to the variance of the targets, with a bias.

    With as many outputs as inputs or more no direction of the input is lost, and all are scaled alike: what
    differs on the input side differs as much on the output side. Ridge regression has neither property where
    the tokens span few directions.

    Args:
        fit: Moments of inputs and targets over tokens.

    Returns:
        Weight and bias, float64. With fewer outputs than inputs the rows of the weight are orthogonal.

    Source: https://doi.org/10.1007/BF02289451.
    Differs: the scale equates the variances of image and targets; least squares would shrink the image.
    """
    inputs, cross = fit.covariance()
    left, _, right = torch.linalg.svd(cross.T, full_matrices=False)
    turn = left @ right
    # Variance of the image: that of the inputs, as far as there are outputs for it.
    image = ((turn @ inputs) * turn).sum().clamp_min(torch.finfo(inputs.dtype).tiny)
    weight = (fit.variance().sum() / image).sqrt() * turn
    return weight, fit.y / fit.count - weight @ (fit.x / fit.count)
