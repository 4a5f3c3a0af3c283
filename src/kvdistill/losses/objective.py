"""The sum of all terms of one step."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from kvdistill.kv import LossOutput
from kvdistill.losses.attention_kl import AttentionKL
from kvdistill.losses.codi import CODILoss
from kvdistill.losses.cross_entropy import CrossEntropy
from kvdistill.losses.inputs import Loss, LossInputs, Need
from kvdistill.losses.kv_loss import KVLoss

LossTerm = CrossEntropy | CODILoss | KVLoss | AttentionKL
"""Every loss, told apart by ``kind``."""


@dataclass(frozen=True, kw_only=True)
class WeightedLoss:
    """A further term of the objective."""

    weight: float
    loss: LossTerm

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"Objective: the weight of {self.loss.kind} is {self.weight}. Give 0 or more.")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """``CE_student + CE_teacher + L_CODI + L_KV + attention KL``, each with its weight; a term of weight 0 is
    not computed at all.

    Source: https://arxiv.org/abs/2510.02312, the training objective, and table 6 for the weights; the
    attention term: ours.
    """

    kind: Literal["objective"] = "objective"
    ce_student_weight: float = 1.0
    ce_teacher_weight: float = 1.0
    codi_weight: float = 10.0
    kv_weight: float | Literal["auto"] = 1.0
    """A number is taken as it is; ``auto`` must be replaced by ``auto_weight`` on the first batch."""
    attention_weight: float = 0.0
    kv: KVLoss = field(default_factory=KVLoss)
    codi: CODILoss = field(default_factory=CODILoss)
    attention: AttentionKL = field(default_factory=AttentionKL)
    extra: tuple[WeightedLoss, ...] = ()
    """Further terms, each with its weight."""

    def __post_init__(self) -> None:
        """Refuse weights that mean nothing."""
        for name in (
            "ce_student_weight",
            "ce_teacher_weight",
            "codi_weight",
            "kv_weight",
            "attention_weight",
        ):
            weight = getattr(self, name)
            if weight != "auto" and not 0 <= weight < math.inf:
                raise ValueError(
                    f"Objective: {name} is {weight}. A weight is a finite number of 0 or more; 0 leaves the "
                    "term out."
                )
        if self.attention_weight > 0 and self.kv.geometry == "tokens":
            raise ValueError(
                "Objective: with kv.geometry 'tokens' the target keeps its tokens, so the answer's "
                "attention to slots has no counterpart. "
                "Set attention_weight to 0, or kv.geometry to 'slots'."
            )

    def on_axis_of(self, method: str, keeps_tokens: bool) -> "Objective":
        """The objective with the axis of the KV loss that suits a compressor: one that keeps its tokens is
        compared at them.

        Raises:
            ValueError: if a setting contradicts it.
        """
        if self.kv.geometry == "tokens" and not keeps_tokens:
            raise ValueError(
                "loss.kv.geometry 'tokens' reads the student at every token of the target, but target.method "
                f"{method} keeps no more tokens than there are slots. Leave loss.kv.geometry out, or choose "
                "target.method full."
            )
        return replace(self, kv=replace(self.kv, geometry="tokens" if keeps_tokens else "slots"))

    @property
    def needs(self) -> frozenset[Need]:
        """What has to be computed beside both modes."""
        return frozenset().union(*(term.needs for weight, term in self.terms() if weight))

    def terms(self) -> tuple[tuple[float | Literal["auto"], Loss], ...]:
        """Every term with its weight."""
        return (
            (self.ce_student_weight, CrossEntropy(mode="student")),
            (self.ce_teacher_weight, CrossEntropy(mode="teacher")),
            (self.codi_weight, self.codi),
            (self.kv_weight, self.kv),
            (self.attention_weight, self.attention),
            *((term.weight, term.loss) for term in self.extra),
        )

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The weighted sum, and every computed term unweighted and detached under its own name.

        Raises:
            ValueError: if ``kv_weight`` is still ``auto``, every weight is 0, or a term itself refuses.
        """
        if self.kv_weight == "auto":
            raise ValueError(
                "Objective: kv_weight is still 'auto'. On the first batch, replace it by "
                "auto_weight(gradient_norm(kv loss, student kv), reference_norm(student kv)), or give a "
                "number."
            )
        found = [(float(weight), term(inputs)) for weight, term in self.terms() if weight]
        if not found:
            raise ValueError(
                "Objective: every weight is 0, so there is nothing to learn. Give at least one term a weight."
            )
        metrics = {name: value for _, term in found for name, value in term.metrics.items()}
        return LossOutput(torch.stack([weight * term.loss for weight, term in found]).sum(), metrics)
