"""From one model's layers, heads and widths to another's: ``ModelKV -> ModelKV``."""

from kvdistill.align.layer_map import LayerMap, LayerPair, Ratio
from kvdistill.align.projector import Projector

__all__ = ["LayerMap", "LayerPair", "Projector", "Ratio"]
