"""Training objective: weighted sum of the cross-entropies, CODI, KV loss and attention KL."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kvdistill.kv import LossOutput
from kvdistill.losses.attention_kl import AttentionKL
from kvdistill.losses.codi import CODILoss
from kvdistill.losses.cross_entropy import CrossEntropy
from kvdistill.losses.inputs import LearnedLoss, Loss, LossInputs, Need
from kvdistill.losses.kv_loss import KVLoss
from kvdistill.losses.mux import Mux
from kvdistill.losses.step_ce import StepCE
from kvdistill.losses.step_decoder import StepDecoder

LossTerm = CrossEntropy | CODILoss | KVLoss | AttentionKL | StepCE | Mux | StepDecoder
"""Every loss, told apart by ``kind``."""


@dataclass(frozen=True, kw_only=True)
class WeightedLoss:
    """A further term of the objective, with its weight."""

    weight: float
    """Factor of the loss; a finite number of 0 or more."""
    loss: LossTerm

    def __post_init__(self) -> None:
        # Not ``weight < 0``: NaN fails every comparison and is refused here too.
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"Objective: the weight of {self.loss.kind} is {self.weight}. Give 0 or more.")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """``CE_student + CE_teacher + L_CODI + L_KV + attention KL``, each with its weight.

    A term of weight 0 is not computed.

    Source: https://arxiv.org/abs/2510.02312, the training objective, and table 6 for the weights; the
    attention term: ours.
    """

    kind: Literal["objective"] = "objective"
    ce_student_weight: float = 1.0
    ce_teacher_weight: float = 1.0
    codi_weight: float = 10.0
    kv_weight: float | Literal["auto"] = 1.0
    """A number, or ``auto``: to be replaced by the result of ``auto_weight`` on the first batch."""
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
            # As above, this refuses NaN too.
            if weight != "auto" and not 0 <= weight < math.inf:
                raise ValueError(
                    f"Objective: {name} is {weight}. A weight is a finite number of 0 or more; 0 leaves the "
                    "term out."
                )
        if self.attention_weight > 0 and self.kv.axis == "tokens":
            raise ValueError(
                "Objective: with kv.axis 'tokens' the target keeps its tokens, so the answer's "
                "attention to slots has no counterpart. "
                "Set attention_weight to 0, or kv.axis to 'slots'."
            )

    def on_axis_of(self, method: str, keeps_tokens: bool) -> "Objective":
        """Set the KV loss's axis for a compressor: the target's tokens if it keeps them, else slots.

        Args:
            method: Name of the compressor, for the error message.
            keeps_tokens: Whether the compressor keeps all N tokens of the target.

        Returns:
            A copy with ``kv.axis`` set to ``tokens`` or ``slots``.

        Raises:
            ValueError: if ``kv.axis`` is ``tokens`` and the compressor does not keep its tokens.
        """
        if self.kv.axis == "tokens" and not keeps_tokens:
            raise ValueError(
                "loss.kv.axis 'tokens' reads the student at every token of the target, but target.method "
                f"{method} keeps no more tokens than there are slots. Leave loss.kv.axis out, or choose "
                "target.method full."
            )
        axis = "slots"
        if keeps_tokens:
            axis = "tokens"
        return replace(self, kv=replace(self.kv, axis=axis))

    @property
    def needs(self) -> frozenset[Need]:
        """What the terms of nonzero weight need in addition to both modes."""
        # The weight ``auto`` counts as nonzero.
        return frozenset().union(*(term.needs for weight, term in self.terms() if weight))

    def terms(self) -> tuple[tuple[float | Literal["auto"], Loss], ...]:
        """Every term with its weight.

        Returns:
            Pairs of weight and loss, including those of weight 0.
        """
        return (
            (self.ce_student_weight, CrossEntropy(mode="student")),
            (self.ce_teacher_weight, CrossEntropy(mode="teacher")),
            (self.codi_weight, self.codi),
            (self.kv_weight, self.kv),
            (self.attention_weight, self.attention),
            *((term.weight, term.loss) for term in self.extra),
        )

    def modules(self, embedding: Float[Tensor, "C D"]) -> dict[str, nn.Module]:
        """New modules of the further terms that learn.

        Args:
            embedding: The student's token embeddings.

        Returns:
            Modules by kind; most objectives have none.

        Raises:
            ValueError: if two such terms are of one kind.
        """
        learned = [loss for weight, loss in self.terms() if weight and isinstance(loss, LearnedLoss)]
        found = {loss.kind: loss.module(embedding) for loss in learned}
        if len(found) < len(learned):
            raise ValueError("Objective: two further terms of one kind that learns. Give it once.")
        return found

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The weighted sum of all terms of nonzero weight.

        Args:
            inputs: Outputs of both modes, and what ``needs`` asks for.

        Returns:
            A scalar, and the metrics of the computed terms, unweighted and detached, by name.

        Raises:
            ValueError: if ``kv_weight`` is still ``auto``, every weight is 0, or a term raises it.
        """
        if self.kv_weight == "auto":
            raise ValueError(
                "Objective: kv_weight is still 'auto'. On the first batch, replace it by "
                "auto_weight(gradient_norm(kv loss, student kv), reference_norm(student kv)), or give a "
                "number."
            )
        # Terms of weight 0 are skipped, so their inputs need not exist.
        found = [(float(weight), term(inputs)) for weight, term in self.terms() if weight]
        if not found:
            raise ValueError(
                "Objective: every weight is 0, so there is nothing to learn. Give at least one term a weight."
            )
        metrics = {name: value for _, term in found for name, value in term.metrics.items()}
        return LossOutput(torch.stack([weight * term.loss for weight, term in found]).sum(), metrics)
