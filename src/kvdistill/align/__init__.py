"""Alignment of two models' caches: tokens, time, layers, heads and widths, and projection to the teacher."""

from kvdistill.align.adapter_fitted import Learned, Ridge
from kvdistill.align.adapter_fixed import GroupMean, Identity, Repeat
from kvdistill.align.adapter_report import AdapterReport, MapReport
from kvdistill.align.calibration import Calibration
from kvdistill.align.cka import CKA, LayerSimilarity
from kvdistill.align.head_dim_adapter import Adapter
from kvdistill.align.key_norm import to_key_norm
from kvdistill.align.layer_map import LastAligned, LayerMap, LayerPair, Nearest, Ratio, Uniform
from kvdistill.align.projector import Projector
from kvdistill.align.rope_parameters import check_scaling, readable_window, scaled_parameters
from kvdistill.align.rope_scale import move
from kvdistill.align.time_align import NearestSlot, SlotMatch, SoftSlot, align_time
from kvdistill.align.tokenizer_align import align_tokens, uncovered_characters, uncovered_tokens

LayerMethod = Ratio | Nearest | LastAligned | Uniform | CKA
"""Every layer map, told apart by ``kind``."""
AdapterMethod = Ridge | Learned | GroupMean | Repeat | Identity
"""Every method of the adapter, told apart by ``kind``."""

__all__ = [
    "CKA",
    "Adapter",
    "AdapterMethod",
    "AdapterReport",
    "Calibration",
    "GroupMean",
    "Identity",
    "LastAligned",
    "LayerMap",
    "LayerMethod",
    "LayerPair",
    "LayerSimilarity",
    "Learned",
    "MapReport",
    "Nearest",
    "NearestSlot",
    "Projector",
    "Ratio",
    "Repeat",
    "Ridge",
    "SlotMatch",
    "SoftSlot",
    "Uniform",
    "align_time",
    "align_tokens",
    "check_scaling",
    "move",
    "readable_window",
    "scaled_parameters",
    "to_key_norm",
    "uncovered_characters",
    "uncovered_tokens",
]
