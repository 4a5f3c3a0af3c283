"""The sum of all terms of one step, and the weight that makes two KV losses comparable."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from kvdistill.kv import LabelRows, LossOutput, ModelKV, TwoModes
from kvdistill.losses.attention_kl import AttentionKL
from kvdistill.losses.codi import CODILoss
from kvdistill.losses.geometry import CachedFrame
from kvdistill.losses.kv_loss import KVLoss
from kvdistill.ops import to_float32


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

    def compare(
        self,
        two: TwoModes,
        target: ModelKV | None,
        frame: CachedFrame | None = None,
        layer_weights: Float[Tensor, " L"] | None = None,
    ) -> LossOutput:
        """The weighted sum, and every computed term unweighted and detached under its own name.

        ``target`` may be None where neither the KV nor the attention term counts; ``frame`` and
        ``layer_weights`` go to ``kv``.

        Raises:
            ValueError: if ``kv_weight`` is still ``auto``, a term lacks its target, or the term itself
                refuses.
        """
        if self.kv_weight == "auto":
            raise ValueError(
                "Objective: kv_weight is still 'auto'. On the first batch, replace it by "
                "auto_weight(gradient_norm(kv loss, student kv), "
                "reference_norm(student kv)), or give a number."
            )
        terms = self._cross_entropies(two)
        if self.codi_weight:
            terms.append((self.codi_weight, self.codi.compare(two.teacher, two.student)))
        if self.kv_weight:
            terms.append(
                (self.kv_weight, self.kv.compare(_required(target), two.student.kv, frame, layer_weights))
            )
        if self.attention_weight:
            terms.append((self.attention_weight, self.attention.compare(_required(target), two.student)))
        if not terms:
            raise ValueError(
                "Objective: every weight is 0, so there is nothing to learn. Give at least one term a weight."
            )
        metrics = {name: value for _, term in terms for name, value in term.metrics.items()}
        return LossOutput(torch.stack([weight * term.loss for weight, term in terms]).sum(), metrics)

    def _cross_entropies(self, two: TwoModes) -> list[tuple[float, LossOutput]]:
        terms = []
        for name, weight, mode in (
            ("ce_student", self.ce_student_weight, two.student),
            ("ce_teacher", self.ce_teacher_weight, two.teacher),
        ):
            if weight:
                loss = cross_entropy(mode.rows, len(mode.hidden))
                terms.append((weight, LossOutput(loss, {name: loss.detach()})))
        return terms


def _required(target: ModelKV | None) -> ModelKV:
    if target is None:
        raise ValueError(
            "Objective: the KV and attention terms need a target cache. Pass one, or set kv_weight and "
            "attention_weight to 0."
        )
    return target


def gradient_norm(loss: Float[Tensor, ""], student: ModelKV) -> float:
    """Euclidean norm of the gradient of ``loss`` at all keys and values of the student's latent cache; the
    graph is kept.

    Raises:
        ValueError: if the loss does not depend on the cache.

    Source: ours.
    """
    leaves = [x for layer in student.layers for x in (layer.keys, layer.values) if x.requires_grad]
    grads = (
        torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
        if leaves and loss.requires_grad
        else ()
    )
    squares = [to_float32(grad).square().sum() for grad in grads if grad is not None]
    if not squares:
        raise ValueError(
            "gradient_norm: the loss does not depend on the student's cache. Compute it from this very "
            "cache, with gradients on."
        )
    return math.sqrt(float(torch.stack(squares).sum()))


def reference_norm(student: ModelKV) -> float:
    """The gradient norm that all KV methods are brought to: that of ``½ (mse(K) + mse(V))`` where every
    number is off by 1.

    It depends on the student's shapes alone: with n_K and n_V numbers per sample in a layer's keys and
    values, ``sqrt(sum over layers (1 / n_K + 1 / n_V) / B) / L``. Per-sample gradients are independent, hence
    the root of the batch size B; a weight found on one batch size holds for another, and a plain mean-squared
    loss of unit errors gets the weight 1.

    Source: ours.
    """
    batch = student.layers[0].keys.shape[0]
    total = sum(1 / layer.keys[0].numel() + 1 / layer.values[0].numel() for layer in student.layers)
    return math.sqrt(total / batch) / len(student.layers)


def auto_weight(norm: float, reference: float) -> float:
    """The weight that brings a loss of gradient norm ``norm`` to ``reference``, so that methods start out
    pulling equally hard.

    Raises:
        ValueError: if the norm is 0 or not finite.

    Source: ours.
    """
    if not 0 < norm < math.inf:
        raise ValueError(
            f"auto_weight: the KV loss has the gradient norm {norm}. Give kv_weight as a number, or look at "
            "the first batch."
        )
    return reference / norm
