"""Alignment of two models' caches: layer map, projection of heads and widths, rotary scaling."""

from kvdistill.align.layer_map import LayerMap, LayerPair, Ratio
from kvdistill.align.projector import Projector
from kvdistill.align.rope_parameters import check_scaling, readable_window, scaled_parameters
from kvdistill.align.rope_scale import move

__all__ = [
    "LayerMap",
    "LayerPair",
    "Projector",
    "Ratio",
    "check_scaling",
    "move",
    "readable_window",
    "scaled_parameters",
]
