"""Standardization of question vectors, before prototypes or routers read them."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

MOMENTUM = 0.3
"""Share of a training batch in the statistics of the questions' vectors."""


class QueryNorm(nn.Module):
    """Standardizes the channels of question vectors, by statistics that follow the student.

    Args:
        width: D, width of a question vector.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def fit(self, queries: Float[Tensor, "B D"]) -> None:
        """Measure mean and standard deviation of each channel.

        Args:
            queries: (B, D), one vector per calibration question.
        """
        self.mean.copy_(queries.mean(0))
        self.std.copy_(queries.std(0, unbiased=False))

    @torch.no_grad()
    def observe(
        self, queries: Float[Tensor, "B D"], all_reduce_sum: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Move the statistics towards those of a training batch, since the student's keys move.

        Args:
            queries: (B, D), of this process.
            all_reduce_sum: All-reduce sum over the processes; None for a single one.
        """
        offset = queries.to(self.mean) - self.mean
        # A row of D sums, a row of D sums of squares, and the number of questions.
        sums = torch.stack((offset.sum(0), offset.square().sum(0), torch.full_like(self.mean, len(queries))))
        if all_reduce_sum is not None:
            sums = all_reduce_sum(sums).to(sums)
        mean, square = sums[:2] / sums[2]
        # The moments of a mixture of the old statistics and the batch.
        moved = MOMENTUM * mean
        variance = (1 - MOMENTUM) * self.std.square() + MOMENTUM * square - moved.square()
        self.mean.add_(moved)
        self.std.copy_(variance.clamp_min(0).sqrt())

    def forward(self, query: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The query with mean 0 and deviation 1; a channel that does not vary is 0."""
        # A channel that hardly varies beside the others holds rounding errors.
        floor = 1e-4 * self.std.amax().clamp_min(1e-8)
        scaled = (query.to(self.mean) - self.mean) / self.std.clamp_min(floor)
        return torch.where(self.std > floor, scaled, 0.0)


def unit_scale(query: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Standardized vectors at a usual length of 1, whatever their width is."""
    return query / query.shape[-1] ** 0.5


def whitening(queries: Float[Tensor, "N D"]) -> Float[Tensor, "D D"]:
    """Map after which the channels of question vectors are uncorrelated.

    The covariance is shrunk towards a multiple of the identity, as much as N questions call for, so that
    directions in which the questions hardly differ are not blown up.

    Args:
        queries: (N, D), standardized.

    Returns:
        (D, D), symmetric; the mapped queries have a mean square of 1.

    Source: https://doi.org/10.1016/S0047-259X(03)00096-4, lemma 3.2 to 3.4.
    """
    points = queries.double() - queries.double().mean(0)
    count, width = points.shape
    covariance = points.T @ points / count
    size = covariance.diagonal().mean().clamp_min(1e-12)
    target = size * torch.eye(width, dtype=points.dtype, device=points.device)
    distance = (covariance - target).square().sum()
    # Of a question's outer product around the covariance: sum_i ||x_i x_i' - C||^2 / N^2.
    noise = (points.square().sum(-1).square().sum() / count - covariance.square().sum()) / count
    share = (noise / distance.clamp_min(1e-12)).clamp(0.01, 1.0)
    values, vectors = torch.linalg.eigh((1 - share) * covariance + share * target)
    found = vectors * values.rsqrt() @ vectors.T
    scale = (width / (found @ covariance @ found).diagonal().sum().clamp_min(1e-12)).sqrt()
    return (scale * found).to(queries)
