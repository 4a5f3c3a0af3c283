"""CODI: distance of the hidden states at the distillation token."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.kv import LossOutput, ModelOutput
from kvdistill.losses.cross_entropy import has_cot
from kvdistill.losses.distance import Distance, elementwise, require_positive_beta
from kvdistill.losses.inputs import LossInputs, Need
from kvdistill.ops import EPSILON, to_float32


def codi_supported(teacher: ModelOutput, student: ModelOutput) -> bool:
    """Whether the hidden states of two outputs can be compared.

    Args:
        teacher: Output with hidden states (B, L, D).
        student: Output with hidden states (B, L, D).

    Returns:
        True if number of layers and hidden width are equal.
    """
    return teacher.hidden.shape[1:] == student.hidden.shape[1:]


@dataclass(frozen=True, kw_only=True)
class CODILoss:
    """Student mode's hidden states at the token before the answer against teacher mode's, detached.

    A sample's loss is a mean over width, divided by the standard deviation (over width, floor 1e-6) of that
    sample's teacher state of the layer, then a mean over layers, including the embedding layer; the loss is
    the mean over samples. A sample without a chain of thought has no loss.

    Source: CODI, https://arxiv.org/abs/2502.21074, and KaVa, https://arxiv.org/abs/2510.02312, the term
    L_CODI.
    Differs: the standard deviation is each sample's own, where the published code takes the batch's.
    """

    kind: Literal["codi"] = "codi"
    distance: Distance = "smooth_l1"
    beta: float = 1.0
    """Absolute difference at which ``smooth_l1`` changes from quadratic to linear."""
    layer_std: bool = True
    """Divide a layer's distance by the standard deviation of the teacher's hidden state."""
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a beta that smooth-L1 cannot have."""
        require_positive_beta(self.beta)

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The mean over samples.

        Args:
            inputs: Both modes' outputs, with hidden states (B, L, D).

        Returns:
            A scalar, logged as ``codi``. Where ``codi_supported`` is False, a loss of 0 with the metric
            ``codi_skipped`` = 1.
        """
        teacher, student = inputs.outputs.teacher, inputs.outputs.student
        if not codi_supported(teacher, student):
            # Not an error: outputs of different depth or width leave the other terms as they are.
            nothing = torch.zeros((), device=student.hidden.device)
            return LossOutput(nothing, {"codi_skipped": torch.ones_like(nothing)})
        loss = self.per_sample(teacher, student).mean()
        return LossOutput(loss, {"codi": loss.detach()})

    def per_sample(self, teacher: ModelOutput, student: ModelOutput) -> Float[Tensor, " B"]:
        """The loss of each sample.

        Args:
            teacher: Teacher mode's output, hidden states (B, L, D); detached here.
            student: Student mode's output, hidden states of the same shape.

        Returns:
            (B,), the mean over width and layers; 0 for a sample without a chain of thought.
        """
        target = to_float32(teacher.hidden.detach())
        # (B, L, D) -> (B, L)
        layers = elementwise(target, student.hidden, self.distance, self.beta).mean(-1)
        # Hidden states differ in scale by layer; without the division the largest would dominate.
        if self.layer_std:
            layers = layers / target.std(-1, correction=0).clamp_min(EPSILON)
        # Without a chain of thought teacher mode has nothing to teach: its state is that of a direct answer.
        return torch.where(has_cot(teacher), layers.mean(-1), 0.0)
