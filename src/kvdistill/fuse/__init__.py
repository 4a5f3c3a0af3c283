"""Fusion: one cache from the aligned caches of several teachers."""

from kvdistill.fuse.fuse_kv import fuse, normalized_weights

__all__ = ["fuse", "normalized_weights"]
