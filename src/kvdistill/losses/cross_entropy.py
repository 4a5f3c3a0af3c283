"""Cross-entropy of one mode of the student."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from kvdistill.kv import LabelRows, LossOutput
from kvdistill.losses.inputs import LossInputs, Need
from kvdistill.ops import to_float32


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Negative log-likelihood of one mode's labels in nats: a mean within each sample, then over samples.

    Source: https://arxiv.org/abs/2510.02312, the training objective (its 1/N_A is a mean within the sample).
    """

    kind: Literal["cross_entropy"] = "cross_entropy"
    mode: Literal["student", "teacher"] = "student"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The loss, logged as ``ce_student`` or ``ce_teacher``."""
        output = inputs.outputs.student if self.mode == "student" else inputs.outputs.teacher
        loss = cross_entropy(output.rows, len(output.hidden))
        return LossOutput(loss, {f"ce_{self.mode}": loss.detach()})


def nll_per_sample(rows: LabelRows, num_samples: int) -> Float[Tensor, " B"]:
    """Mean negative log-likelihood (nats a token, float32) of each sample's labels; 0 for a sample without a
    label.
    """
    nll = functional.cross_entropy(to_float32(rows.logits), rows.labels, reduction="none")
    sums = nll.new_zeros(num_samples).index_add(0, rows.sample, nll)
    return sums / torch.bincount(rows.sample, minlength=num_samples).clamp_min(1)


def cross_entropy(rows: LabelRows, num_samples: int) -> Float[Tensor, ""]:
    """Mean over samples of each sample's mean negative log-likelihood, in nats.

    Source: https://arxiv.org/abs/2510.02312, the training objective (its 1/N_A is a mean within the sample).
    """
    return nll_per_sample(rows, num_samples).mean()
