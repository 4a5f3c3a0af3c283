"""Losses: ``LossInputs -> LossOutput``, one file each. They take tensors; one that learns
has its module in ``LossInputs.modules``.
"""

from kvdistill.losses.attention_kl import AttentionKL
from kvdistill.losses.auto_weight import auto_weight, gradient_norm, reference_norm
from kvdistill.losses.axis import CachedFrame
from kvdistill.losses.codi import CODILoss, codi_supported
from kvdistill.losses.cross_entropy import CrossEntropy, cross_entropy
from kvdistill.losses.inputs import Loss, LossInputs
from kvdistill.losses.kv_loss import KVLoss
from kvdistill.losses.layer_weights import annealed_layer_weights
from kvdistill.losses.mux import Mux
from kvdistill.losses.objective import LossTerm, Objective, WeightedLoss
from kvdistill.losses.step_ce import StepCE
from kvdistill.losses.step_decoder import StepDecoder

__all__ = [
    "AttentionKL",
    "CODILoss",
    "CachedFrame",
    "CrossEntropy",
    "KVLoss",
    "Loss",
    "LossInputs",
    "LossTerm",
    "Mux",
    "Objective",
    "StepCE",
    "StepDecoder",
    "WeightedLoss",
    "annealed_layer_weights",
    "auto_weight",
    "codi_supported",
    "cross_entropy",
    "gradient_norm",
    "reference_norm",
]
