"""Cross-entropy of the labels in one mode of the student."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from kvdistill.kv import NO_LABEL, LabelRows, LossOutput, ModelOutput
from kvdistill.losses.inputs import LossInputs, Need
from kvdistill.ops import to_float32


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Negative log-likelihood of one mode's labels in nats: a mean within each sample, then over samples.

    A sample without a chain of thought has no loss in teacher mode: it would train direct answers there.

    Source: https://arxiv.org/abs/2510.02312, the training objective (its 1/N_A is a mean within the sample).
    """

    kind: Literal["cross_entropy"] = "cross_entropy"
    mode: Literal["student", "teacher"] = "student"
    """Mode of the student whose labels count: latent slots, or the explicit chain of thought."""
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The mean over samples.

        Args:
            inputs: Both modes' outputs, with logits (R, C) at the label rows.

        Returns:
            A scalar in nats per token, logged as ``ce_student`` or ``ce_teacher``.
        """
        if self.mode == "student":
            output = inputs.outputs.student
            loss = cross_entropy(output.rows, len(output.hidden))
        else:
            output = inputs.outputs.teacher
            found = nll_per_sample(output.rows, len(output.hidden))
            loss = torch.where(has_cot(output), found, 0.0).mean()
        return LossOutput(loss, {f"ce_{self.mode}": loss.detach()})


def has_cot(teacher: ModelOutput) -> Bool[Tensor, " B"]:
    """The samples whose teacher mode has read a chain of thought.

    Args:
        teacher: Teacher mode's output.

    Returns:
        (B,), True where the cache holds a token.
    """
    return teacher.kv.layers[0].mask.flatten(1).any(1)


def nll_per_sample(rows: LabelRows, num_samples: int) -> Float[Tensor, " B"]:
    """Mean negative log-likelihood of each sample's labels.

    Args:
        rows: Logits (R, C), labels (R,) and the sample of each row (R,).
        num_samples: B, the batch size.

    Returns:
        (B,), nats per token in float32; 0 for a sample without a label.
    """
    # (R, C) -> (R,), 0 at rows without a label; the packed rows are summed by sample below.
    nll = functional.cross_entropy(
        to_float32(rows.logits), rows.labels, reduction="none", ignore_index=NO_LABEL
    )
    # A mean within the sample first: long answers weigh as much as short ones.
    sums = nll.new_zeros(num_samples).index_add(0, rows.sample, nll)
    # Not bincount, whose length the host would have to wait for.
    counts = nll.new_zeros(num_samples).index_add(0, rows.sample, (rows.labels != NO_LABEL).to(nll))
    return sums / counts.clamp_min(1)


def cross_entropy(rows: LabelRows, num_samples: int) -> Float[Tensor, ""]:
    """Mean over samples of each sample's mean negative log-likelihood.

    Args:
        rows: Logits (R, C), labels (R,) and the sample of each row (R,).
        num_samples: B, the batch size.

    Returns:
        A scalar, nats per token. Every sample has the same weight, however many labels it has.

    Source: https://arxiv.org/abs/2510.02312, the training objective (its 1/N_A is a mean within the sample).
    """
    return nll_per_sample(rows, num_samples).mean()
