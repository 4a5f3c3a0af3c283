"""Automatic KV weight: equal gradient norms of all methods at the start of training."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.kv import ModelKV
from kvdistill.ops import to_float32


def gradient_norm(loss: Float[Tensor, ""], student: ModelKV) -> float:
    """Euclidean norm of the gradient of ``loss`` at all keys and values of the student's latent cache.

    Args:
        loss: Scalar computed from ``student``; its graph is kept.
        student: The latent cache of M slots, in the autograd graph.

    Returns:
        The norm over all layers, samples, heads and slots together.

    Raises:
        ValueError: if the loss does not depend on the cache.

    Source: ours.
    """
    # Layers that do not enter the loss have no gradient (allow_unused) and add nothing to the norm.
    leaves = [x for layer in student.layers for x in (layer.keys, layer.values) if x.requires_grad]
    grads: tuple[Tensor | None, ...] = ()
    if leaves and loss.requires_grad:
        grads = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
    # Summed in float32: squares of half-precision gradients can underflow.
    squares = [to_float32(grad).square().sum() for grad in grads if grad is not None]
    if not squares:
        raise ValueError(
            "gradient_norm: the loss does not depend on the student's cache. Compute it from this very "
            "cache, with gradients on."
        )
    return math.sqrt(float(torch.stack(squares).sum()))


def reference_norm(student: ModelKV) -> float:
    """Gradient norm that all KV methods are scaled to: that of ``½ (mse(K) + mse(V))`` with unit errors.

    It depends only on the student's shapes: with n_K and n_V elements per sample in a layer's keys and
    values, ``sqrt(sum over layers (1 / n_K + 1 / n_V) / B) / L``. Per-sample gradients are independent, hence
    the root of the batch size B: a weight found at one batch size is valid at another. A plain mean-squared
    loss with an error of 1 in every element gets the weight 1.

    Args:
        student: The latent cache of M slots, B samples, L layers.

    Returns:
        The norm for a batch of B samples.

    Source: ours.
    """
    # keys[0] is one sample: n_K = H T K, n_V = H T V.
    batch = student.layers[0].keys.shape[0]
    total = sum(1 / layer.keys[0].numel() + 1 / layer.values[0].numel() for layer in student.layers)
    return math.sqrt(total / batch) / len(student.layers)


def auto_weight(norm: float, reference: float) -> float:
    """Weight that scales a loss of gradient norm ``norm`` to the norm ``reference``.

    Args:
        norm: Gradient norm of the KV loss, from ``gradient_norm``.
        reference: Norm to reach, from ``reference_norm`` for the same batch size.

    Returns:
        ``reference / norm``.

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
