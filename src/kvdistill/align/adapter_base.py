"""Base of the adapter's methods: how a map starts, what is fitted, and what is trained."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kvdistill.align.layer_map import LayerMap
from kvdistill.kv import Geometry, ModelKV


@dataclass(frozen=True, slots=True)
class Block:
    """Heads and widths of one map: those of the teacher layers it reads, and of the student layer."""

    heads: tuple[int, ...]
    widths: tuple[int, ...]
    weights: tuple[float, ...]
    """The layer map's weights; they sum to 1."""
    student_heads: int
    student_width: int

    @property
    def inputs(self) -> int:
        """Heads x width of all teacher layers together."""
        return sum(heads * width for heads, width in zip(self.heads, self.widths, strict=True))

    @property
    def outputs(self) -> int:
        """Heads x width of the student layer."""
        return self.student_heads * self.student_width


class AdapterSettings:
    """Base of the adapter's methods."""

    learns: ClassVar[bool] = False
    """Whether the maps are trained along with the student."""
    mixes_heads: ClassVar[bool] = True
    """Whether a head of the result comes from several heads, so that their importance is averaged."""

    @property
    def one_map(self) -> bool:
        """Whether all student layers share one map for keys and one for values."""
        return False

    def penalty_grid(self) -> tuple[float, ...]:
        """The ridge penalties to choose from.

        Returns:
            Penalties relative to the mean variance of the inputs; none for maps that are not fitted.
        """
        return ()

    def check(self, student: Geometry, teacher: Geometry, layer_map: LayerMap) -> None:
        """Refuse a teacher that the method cannot adapt.

        Args:
            student: The student's attention layers.
            teacher: The teacher's attention layers.
            layer_map: The teacher layers of each student layer.

        Raises:
            ValueError: naming the layer, and the methods that could.
        """

    def start(self, block: Block, draw: torch.Generator) -> nn.Module:
        """A map before calibration.

        Args:
            block: Its heads and widths.
            draw: Source of random numbers.

        Returns:
            ``nn.Linear`` from ``block.inputs`` to ``block.outputs``, or ``nn.Identity``.
        """
        return affine_map(torch.zeros(block.outputs, block.inputs))

    def regularizer(
        self,
        moved: ModelKV,
        student: ModelKV,
        scale: Float[Tensor, "L 2"] | None = None,
        all_reduce_sum: Callable[[Tensor], Tensor] | None = None,
    ) -> Float[Tensor, ""]:
        """The term that a trained adapter adds to the loss.

        Args:
            moved: The teacher's cache in the student's geometry, N slots.
            student: The student's own cache over the same N tokens.
            scale: (L, 2), standard deviations of the student's keys and values, measured at calibration.
            all_reduce_sum: All-reduce sum over the processes of the run; None for a single one.

        Returns:
            A scalar; 0 for methods that are not trained.
        """
        return moved.layers[0].keys.new_zeros(())


def affine_map(weight: Float[Tensor, "o i"]) -> nn.Linear:
    """An affine map with this weight and a bias of 0.

    Args:
        weight: The weight to copy.

    Returns:
        A module that takes no numbers from torch's global generator.
    """
    outputs, inputs = weight.shape
    # Created on the meta device: the initialization of nn.Linear would draw from torch's global generator.
    linear = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.zero_()
    return linear
