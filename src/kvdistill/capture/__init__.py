"""Capture: from the attention layers of a transformers model to KV caches with un-rotated keys."""
