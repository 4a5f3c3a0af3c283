"""Losses between a target cache and the student: ``(target, student) -> LossOutput``. They take tensors,
never a module.
"""

from kvdistill.losses.attention_kl import AttentionKL
from kvdistill.losses.codi import CODILoss, codi_supported
from kvdistill.losses.geometry import CachedFrame
from kvdistill.losses.kv_loss import KVLoss, annealed_layer_weights
from kvdistill.losses.total import Objective, auto_weight, cross_entropy, gradient_norm, reference_norm

__all__ = [
    "AttentionKL",
    "CODILoss",
    "CachedFrame",
    "KVLoss",
    "Objective",
    "annealed_layer_weights",
    "auto_weight",
    "codi_supported",
    "cross_entropy",
    "gradient_norm",
    "reference_norm",
]
