"""Similarity of a question to the teachers' prototypes, as weights of the teachers."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Metric = Literal["cosine", "dot", "l2"]
"""``l2`` is the negative Euclidean distance."""
SHORTEST = 0.05
"""Shortest prototype that has a direction, where a query's usual length is 1; cosines of shorter ones shrink
to 0, since the mean of a few hundred unrelated questions is about that long.
"""


def similarities(
    query: Float[Tensor, "B D"], prototypes: Float[Tensor, "E P D"], metric: Metric
) -> Float[Tensor, "B E P"]:
    """Similarity of each query to each prototype.

    Args:
        query: (B, D), one vector per question.
        prototypes: (E, P, D), P vectors per teacher.
        metric: ``cosine``, ``dot`` or ``l2``.

    Returns:
        (B, E, P); higher is more alike.
    """
    if metric == "l2":
        # (B, 1, 1, D) - (E, P, D) -> (B, E, P)
        return -(query[:, None, None] - prototypes).norm(dim=-1)
    products = torch.einsum("bd,epd->bep", query, prototypes)
    if metric == "dot":
        return products
    lengths = prototypes.norm(dim=-1).clamp_min(SHORTEST)
    return products / (query.norm(dim=-1).clamp_min(1e-8)[:, None, None] * lengths)


def similarity_weights(
    query: Float[Tensor, "B D"],
    prototypes: Float[Tensor, "E P D"],
    mass: Float[Tensor, "E P"],
    metric: Metric = "cosine",
    temperature: float = 1.0,
) -> Float[Tensor, "B E"]:
    """Softmax over the teachers of the similarity to their prototypes.

    ``alpha_e = sum_p m_ep exp(s_ep / tau) / sum_e sum_p m_ep exp(s_ep / tau)``. With one prototype of mass 1
    per teacher this is the softmax of the similarities.

    Args:
        query: (B, D), one vector per question.
        prototypes: (E, P, D), P vectors per teacher.
        mass: (E, P), how much a prototype counts for, 0 or more; one of mass 0 does not count.
        metric: ``cosine``, ``dot`` or ``l2``.
        temperature: Divides the similarities; above 0.

    Returns:
        (B, E), sums to 1 over E.

    Source: ours; a mixture with one component per prototype.
    """
    scores = similarities(query, prototypes, metric) / temperature + mass.log()
    return scores.logsumexp(-1).softmax(-1)
