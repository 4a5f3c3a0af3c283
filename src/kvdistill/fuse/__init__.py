"""Fusion: one cache from the aligned caches of several teachers."""

from kvdistill.fuse.fuse_kv import fuse, normalized_weights, over_present
from kvdistill.fuse.routers import AttentionRouter, GateRouter, MLPRouter, RouterMethod
from kvdistill.fuse.similarity import similarity_weights

__all__ = [
    "AttentionRouter",
    "GateRouter",
    "MLPRouter",
    "RouterMethod",
    "fuse",
    "normalized_weights",
    "over_present",
    "similarity_weights",
]
