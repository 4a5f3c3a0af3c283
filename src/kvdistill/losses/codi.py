"""CODI: the student's hidden states at the distillation token."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.kv import LossOutput, ModelOutput
from kvdistill.losses.distance import Distance, elementwise, require_positive_beta
from kvdistill.losses.inputs import LossInputs, Need
from kvdistill.ops import EPSILON, to_float32


def codi_supported(teacher: ModelOutput, student: ModelOutput) -> bool:
    """Whether hidden states can be compared: as many layers, as wide."""
    return teacher.hidden.shape[1:] == student.hidden.shape[1:]


@dataclass(frozen=True, kw_only=True)
class CODILoss:
    """The student's hidden state at the token before the answer against the detached one of teacher mode.

    A sample is a mean over width, divided by the standard deviation (over width, floor 1e-6) of that sample's
    teacher state of the layer, then a mean over layers, the embedding layer among them; the loss is the mean
    over samples.

    Source: CODI, https://arxiv.org/abs/2502.21074, and KaVa, https://arxiv.org/abs/2510.02312, the term
    L_CODI.
    Differs: the standard deviation is each sample's own, where the published code takes the batch's.
    """

    kind: Literal["codi"] = "codi"
    distance: Distance = "smooth_l1"
    beta: float = 1.0
    """Where ``smooth_l1`` turns from a parabola into a line."""
    layer_std: bool = True
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a beta that smooth-L1 cannot have."""
        require_positive_beta(self.beta)

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The loss, logged as ``codi``; where ``codi_supported`` says no, a loss of 0 and ``codi_skipped`` =
        1.
        """
        teacher, student = inputs.outputs.teacher, inputs.outputs.student
        if not codi_supported(teacher, student):
            nothing = torch.zeros((), device=student.hidden.device)
            return LossOutput(nothing, {"codi_skipped": torch.ones_like(nothing)})
        loss = self.per_sample(teacher, student).mean()
        return LossOutput(loss, {"codi": loss.detach()})

    def per_sample(self, teacher: ModelOutput, student: ModelOutput) -> Float[Tensor, " B"]:
        """The loss of each sample, between states of equal shape."""
        target = to_float32(teacher.hidden.detach())
        layers = elementwise(target, student.hidden, self.distance, self.beta).mean(-1)
        if self.layer_std:
            layers = layers / target.std(-1, correction=0).clamp_min(EPSILON)
        return layers.mean(-1)
