"""Attention KL: the answer's attention to the latent slots against the teacher's."""

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
    """``KL(teacher || student)`` of the answer's attention to kept tokens and to latent slots, in nats.

    The teacher's distribution is the target's importance. Both are renormalized over the slots valid on both
    sides, so spare slots get no gradient. A sample's loss is a mean over the heads that have a valid slot,
    then over layers; the loss is the mean over samples.

    Source: ours.
    """

    kind: Literal["attention_kl"] = "attention_kl"
    needs: ClassVar[frozenset[Need]] = frozenset({"target", "attention"})

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The mean over pairs and samples.

        Args:
            inputs: Pairs whose targets have importance, and the student's attention to its slots.

        Returns:
            A scalar in nats; logged as ``attention_kl``.

        Raises:
            ValueError: if either side lacks its attention, or the slots do not correspond.
        """
        student = inputs.outputs.student
        loss = torch.stack([self.per_sample(pair.target, student).mean() for pair in inputs.pairs]).mean()
        return LossOutput(loss, {"attention_kl": loss.detach()})

    def per_sample(self, target: ModelKV, student: ModelOutput) -> Float[Tensor, " B"]:
        """The loss of each sample.

        Args:
            target: The target cache of M slots, with importance.
            student: Student mode's output, with attention to its M slots.

        Returns:
            (B,), in nats.

        Raises:
            ValueError: as in ``__call__``.
        """
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
        layers = [_layer(t, attention, s.mask, target.source) for t, attention, s in triples]
        # (L, B) -> (B,)
        return torch.stack(layers).mean(0)


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
    # (B, H, T): slots that both sides have.
    mask = target.mask & slots
    # Attention mass on slots that the other side lacks would be a gap that no training closes.
    teacher, student = _renormalised(target.importance, mask), _renormalised(attention, mask)
    # Terms p log(p / q); where p is 0 the factor in front makes them 0.
    each = teacher * (teacher.clamp_min(TINY).log() - student.clamp_min(TINY).log())
    # (B, H, T) -> (B, H) -> (B,); heads without a common slot are left out of the mean.
    return masked_mean(each.sum(-1), mask.any(-1), (1,))


def _renormalised(weights: Float[Tensor, "B H T"], mask: Bool[Tensor, "B H T"]) -> Float[Tensor, "B H T"]:
    # A head without a common slot sums to 0: the floor keeps 0 / 0 out of the graph.
    inside = torch.where(mask, to_float32(weights), 0.0)
    return inside / inside.sum(-1, keepdim=True).clamp_min(TINY)
