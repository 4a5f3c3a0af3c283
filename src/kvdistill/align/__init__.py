"""Alignment of two models' caches: layer map, and projection of heads and widths."""

from kvdistill.align.layer_map import LayerMap, LayerPair, Ratio
from kvdistill.align.projector import Projector

__all__ = ["LayerMap", "LayerPair", "Projector", "Ratio"]
