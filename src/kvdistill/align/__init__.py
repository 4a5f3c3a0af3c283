"""Alignment of two models' caches: tokens, time, layer map, and projection of heads and widths."""

from kvdistill.align.layer_map import LayerMap, LayerPair, Ratio
from kvdistill.align.projector import Projector
from kvdistill.align.time_align import align_time
from kvdistill.align.tokenizer_align import align_tokens, uncovered_characters, uncovered_tokens

__all__ = [
    "LayerMap",
    "LayerPair",
    "Projector",
    "Ratio",
    "align_time",
    "align_tokens",
    "uncovered_characters",
    "uncovered_tokens",
]
