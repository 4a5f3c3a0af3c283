"""The weight that makes KV losses of unlike methods begin with equal gradients."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.kv import ModelKV
from kvdistill.ops import to_float32


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
