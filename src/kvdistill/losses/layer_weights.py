"""Layers of the KV loss: their weights, their mean, and the loss of each for the log."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.kv import KVPair


def annealed_layer_weights(progress: float, num_layers: int, share: float) -> Float[Tensor, " L"]:
    """Layer weights of an annealed run: the lowest third of the layers first, later all.

    Args:
        progress: Share of the run that is done, 0 to 1.
        num_layers: L, the student's layers; a third of them is rounded up.
        share: Share of the run in which only the lowest third counts, 0 to 1.

    Returns:
        (L,), 1 for layers that count and 0 for the others.

    Source: ours.
    """
    counted = num_layers
    if progress < share:
        counted = math.ceil(num_layers / 3)
    return (torch.arange(num_layers) < counted).to(torch.float32)


def shared(losses: Float[Tensor, "n B"], share: Float[Tensor, " B"] | None) -> Float[Tensor, "n B"]:
    """Weigh a target's losses by its share of each sample.

    Args:
        losses: (n, B): loss and distances, or layers.
        share: (B,); None where the target is the only one.

    Returns:
        (n, B).
    """
    if share is None:
        return losses
    return losses * share


def weighted_mean(
    layers: Float[Tensor, "L 3 B"], weights: Float[Tensor, " L"] | None
) -> Float[Tensor, "3 B"]:
    """Mean over layers.

    Args:
        layers: (L, 3, B): loss and distances of each layer.
        weights: (L,); None weighs all alike. They are normalized.

    Returns:
        (3, B).

    Raises:
        ValueError: if no layer has a weight.
    """
    if weights is None:
        return layers.mean(0)
    if not weights.sum() > 0:
        raise ValueError(
            "KVLoss: the layer weights sum to 0 or less, so no layer counts. Give at least one layer a "
            "positive weight."
        )
    # Normalized, so that annealing changes which layers count but not the size of the loss.
    shares = (weights / weights.sum()).to(layers)
    return (shares[:, None, None] * layers).sum(0)


def losses_by_layer(
    layers: Sequence[Float[Tensor, "_ 3 B"]], pairs: Sequence[KVPair]
) -> dict[str, Float[Tensor, ""]]:
    """The loss of each compared layer, for the log.

    Args:
        layers: Per pair (L, 3, B): loss and distances of each layer.
        pairs: The pairs, for their shares.

    Returns:
        Detached means over samples by name, ``kv_layer0``, ...; of the first target alone where another has
        another number of layers.
    """
    if len({len(each) for each in layers}) > 1:
        layers, pairs = layers[:1], pairs[:1]
    # (L, 3, B) -> (L, B), with the share of each target -> (L,)
    losses = [shared(each[:, 0], pair.share) for each, pair in zip(layers, pairs, strict=True)]
    means = torch.stack(losses).sum(0).mean(-1).detach()
    return {f"kv_layer{index}": value for index, value in enumerate(means.unbind())}
