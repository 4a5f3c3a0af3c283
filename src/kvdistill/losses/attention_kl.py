"""How the answer looks at the slots: the student's attention against the teacher's."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kvdistill.kv import LayerKV, LossOutput, ModelKV, ModelOutput
from kvdistill.losses.inputs import LossInputs, Need
from kvdistill.ops import masked_mean, to_float32

TINY = 1e-12
"""Floor of a probability under the logarithm."""


@dataclass(frozen=True, kw_only=True)
class AttentionKL:
    """``KL(teacher || student)`` in nats between the answer's attention to the kept tokens and to the latent
    slots.

    The teacher's distribution is the target's importance. Both are renormalised over the slots valid on both
    sides, so spare slots get no signal. A sample is a mean over the heads that have a valid slot, then over
    layers; the loss is the mean over samples.

    Source: ours.
    """

    kind: Literal["attention_kl"] = "attention_kl"
    needs: ClassVar[frozenset[Need]] = frozenset({"target", "attention"})

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The mean over pairs, logged as ``attention_kl``.

        Raises:
            ValueError: if one side did not measure its attention, or the slots do not correspond.
        """
        student = inputs.outputs.student
        loss = torch.stack([self.per_sample(pair.target, student).mean() for pair in inputs.pairs]).mean()
        return LossOutput(loss, {"attention_kl": loss.detach()})

    def per_sample(self, target: ModelKV, student: ModelOutput) -> Float[Tensor, " B"]:
        """The loss of each sample; errors as in ``__call__``."""
        if student.attention is None:
            raise ValueError(
                "AttentionKL: the student's answer attention was not measured. Ask for it, or set "
                "attention_weight to 0."
            )
        if not len(target.layers) == len(student.attention) == len(student.kv.layers):
            raise ValueError(
                f"AttentionKL: the target from {target.source} has {len(target.layers)} layers, the student "
                f"{len(student.kv.layers)} and "
                f"attention for {len(student.attention)}. Map the target's layers to the student's first "
                "(kvdistill.align)."
            )
        triples = zip(target.layers, student.attention, student.kv.layers, strict=True)
        return torch.stack([_layer(t, attention, s.mask, target.source) for t, attention, s in triples]).mean(
            0
        )


def _layer(
    target: LayerKV, attention: Float[Tensor, "B H T"], slots: Bool[Tensor, "B H T"], source: str
) -> Float[Tensor, " B"]:
    if target.importance is None:
        raise ValueError(
            f"AttentionKL: the target from {source} has no importance. Capture it with its answer, or set "
            "attention_weight to 0."
        )
    if target.importance.shape != attention.shape:
        raise ValueError(
            f"AttentionKL: the target from {source} has (batch, heads, slots) "
            f"{tuple(target.importance.shape)}, the student's attention "
            f"{tuple(attention.shape)}. Compress to the student's slots and bring heads to its geometry "
            "first."
        )
    mask = target.mask & slots
    teacher, student = _renormalised(target.importance, mask), _renormalised(attention, mask)
    each = teacher * (teacher.clamp_min(TINY).log() - student.clamp_min(TINY).log())
    return masked_mean(each.sum(-1), mask.any(-1), (1,))


def _renormalised(weights: Float[Tensor, "B H T"], mask: Bool[Tensor, "B H T"]) -> Float[Tensor, "B H T"]:
    inside = torch.where(mask, to_float32(weights), 0.0)
    return inside / inside.sum(-1, keepdim=True).clamp_min(TINY)
