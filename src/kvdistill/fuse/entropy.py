"""Terms that a router is trained with: entropy, load balance, and competence; and what is logged of it.

E are the teachers. Every function takes weights that sum to 1 over E, of each sample (B, E) or of each sample
and layer (B, L, E), and leaves out the samples whose weights are all 0: no teacher covers them.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

EntropyTarget = Literal["none", "specialized", "diverse"]
"""``specialized`` lowers the entropy of each sample's weights, ``diverse`` raises it."""
SMALLEST = 1e-12
"""Smallest weight whose logarithm is taken."""


def entropy(weights: Float[Tensor, "B *l E"]) -> Float[Tensor, " B"]:
    """Entropy of each sample's weights.

    Args:
        weights: (B, E) or (B, L, E), sums to 1 over E.

    Returns:
        (B,), in nats: 0 for a single teacher, ``log E`` for equal weights; the mean over the layers.
    """
    found = -(weights * weights.clamp_min(SMALLEST).log()).sum(-1)
    if found.ndim > 1:
        found = found.mean(-1)
    return found


def entropy_loss(weights: Float[Tensor, "B *l E"], target: EntropyTarget) -> Float[Tensor, ""]:
    """Loss whose descent moves the entropy of each sample's weights.

    Args:
        weights: (B, E) or (B, L, E), sums to 1 over E.
        target: ``specialized``, ``diverse`` or ``none``.

    Returns:
        The mean over the samples of ``H / log E``, from 0 to 1 (``specialized``), of ``1 - H / log E``
        (``diverse``), or 0 (``none``).

    Source: ours.
    """
    most = math.log(max(weights.shape[-1], 2))
    share = mean_over(entropy(weights), with_teacher(weights)) / most
    if target == "specialized":
        return share
    if target == "diverse":
        return 1 - share
    return 0 * share


def load_balance(
    weights: Float[Tensor, "B *l E"], all_reduce_sum: Callable[[Tensor], Tensor] | None = None
) -> Float[Tensor, ""]:
    """Distance of the batch's mean weights from equal ones; keeps all samples from using one teacher.

    A statistic of the batch, over all processes: a sample's term depends on the others.

    Args:
        weights: (B, E) or (B, L, E), sums to 1 over E.
        all_reduce_sum: All-reduce sum over the processes; None for a single one.

    Returns:
        ``1 - H(mean weights) / log E``: 0 where the mean weights are equal, 1 where one teacher has all.

    Source: ours; the purpose of the balancing loss of https://arxiv.org/abs/1701.06538, section 4.
    """
    valid = with_teacher(weights)
    flat = weights.reshape(len(weights), -1)
    mean = (flat * valid[:, None]).sum(0) / valid.sum().clamp_min(1)
    if all_reduce_sum is not None:
        # The sums go through the all-reduce; the gradient is that of this process's own mean, which the
        # trainer weighs by this process's share of the samples.
        totals = torch.cat(((flat * valid[:, None]).sum(0), valid.sum()[None])).detach()
        totals = all_reduce_sum(totals).to(flat)
        mean = totals[:-1] / totals[-1].clamp_min(1) + mean - mean.detach()
    return 1 - entropy(mean.reshape(1, *weights.shape[1:]))[0] / math.log(max(weights.shape[-1], 2))


def route_ce(weights: Float[Tensor, "B *l E"], competence: Float[Tensor, "B E"]) -> Float[Tensor, ""]:
    """Cross-entropy of the weights against the teachers' competence.

    Args:
        weights: (B, E) or (B, L, E), sums to 1 over E.
        competence: (B, E), sums to 1 over E; all 0 where it is not known, which leaves the sample out.

    Returns:
        ``- sum_e c_e log alpha_e`` in nats: the mean over the layers, then over the samples. 0 where no
        sample counts.

    Source: ours.
    """
    logs = weights.clamp_min(SMALLEST).log()
    if logs.ndim == 3:
        logs = logs.mean(1)
    return mean_over(-(competence * logs).sum(-1), _known(weights, competence))


def agreement(weights: Float[Tensor, "B *l E"], competence: Float[Tensor, "B E"]) -> Float[Tensor, ""]:
    """Share of the samples whose largest weight is that of a most competent teacher.

    Args:
        weights: (B, E) or (B, L, E); the mean over the layers counts.
        competence: (B, E), as in ``route_ce``.

    Returns:
        From 0 to 1, over the samples that count.
    """
    chosen = teacher_weights(weights).argmax(-1, keepdim=True)
    best = competence.gather(-1, chosen)[:, 0] >= competence.amax(-1) - 1e-6
    return mean_over(best.to(weights), _known(weights, competence))


def teacher_weights(weights: Float[Tensor, "B *l E"]) -> Float[Tensor, "B E"]:
    """The weights of each sample, as their mean over the layers where they differ between layers."""
    if weights.ndim == 3:
        return weights.mean(1)
    return weights


def with_teacher(weights: Float[Tensor, "B *l E"]) -> Bool[Tensor, " B"]:
    """(B,), True where a teacher has a weight above 0."""
    return teacher_weights(weights).sum(-1) > 0


def mean_over(values: Float[Tensor, " B"], valid: Bool[Tensor, " B"]) -> Float[Tensor, ""]:
    """The mean over the valid samples; 0 where there is none."""
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp_min(1)


def _known(weights: Tensor, competence: Float[Tensor, "B E"]) -> Bool[Tensor, " B"]:
    return with_teacher(weights) & (competence.sum(-1) > 0)
