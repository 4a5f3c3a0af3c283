"""Streaming first and second moments of inputs and targets, in float64."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

FIELDS = ("count", "x", "y", "xx", "xy", "yy")


class Moments:
    """Sums of inputs x, targets y and their products over tokens: all that a linear regression needs.

    Letters of shapes: ``n`` tokens, ``i`` inputs, ``o`` outputs.

    Args:
        inputs: Number of inputs.
        outputs: Number of targets.
        device: Where the sums are kept.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device | str = "cpu") -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.count = zeros()
        self.x, self.y = zeros(inputs), zeros(outputs)
        self.xx, self.xy = zeros(inputs, inputs), zeros(inputs, outputs)
        # Targets do not predict each other: their squares are enough.
        self.yy = zeros(outputs)

    @staticmethod
    def bytes_needed(inputs: int, outputs: int) -> int:
        """Memory of the sums.

        Args:
            inputs: Number of inputs.
            outputs: Number of targets.

        Returns:
            Bytes.
        """
        return 8 * (1 + inputs + 2 * outputs + inputs**2 + inputs * outputs)

    def add(self, x: Float[Tensor, "n i"], y: Float[Tensor, "n o"]) -> None:
        """Add tokens.

        Args:
            x: Inputs, any floating dtype and device.
            y: Targets of the same tokens.
        """
        x, y = (each.detach().to(device=self.x.device, dtype=torch.float64) for each in (x, y))
        self.count += x.shape[0]
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += y.square().sum(0)

    def all_reduce(self, all_reduce_sum: Callable[[Tensor], Tensor]) -> None:
        """Sum over the processes of a run, each of which has added other samples.

        Args:
            all_reduce_sum: Sum of a tensor over all processes.
        """
        for name in FIELDS:
            setattr(self, name, all_reduce_sum(getattr(self, name)))

    def covariance(self) -> tuple[Float[Tensor, "i i"], Float[Tensor, "i o"]]:
        """Covariances of the inputs, and of inputs and targets; population, not sample, variances.

        Returns:
            (i, i) and (i, o), float64.
        """
        x, y = self.x / self.count, self.y / self.count
        return self.xx / self.count - torch.outer(x, x), self.xy / self.count - torch.outer(x, y)

    def variance(self) -> Float[Tensor, " o"]:
        """Variance of each target over the tokens.

        Returns:
            (o), float64, at least 0.
        """
        return (self.yy / self.count - (self.y / self.count).square()).clamp_min(0)

    def error(self, weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"]) -> Float[Tensor, ""]:
        """Mean squared error of an affine map on these tokens, in closed form.

        Args:
            weight: The map's weight.
            bias: Its bias.

        Returns:
            The mean over tokens of the squared distance between target and image, summed over the targets.
        """
        weight, bias = weight.to(self.x), bias.to(self.x)
        inputs, cross = self.covariance()
        # |y - W x - b|² = var(y) - 2 <W', cov(x, y)> + <W', cov(x) W'> + |mean(y) - W mean(x) - b|²
        spread = self.variance().sum() - 2 * (weight.T * cross).sum() + (weight.T * (inputs @ weight.T)).sum()
        offset = self.y / self.count - weight @ (self.x / self.count) - bias
        # Rounding can leave an exact fit below 0.
        return spread.clamp_min(0) + offset.square().sum()
