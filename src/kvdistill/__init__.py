"""Teach a small language model to reason in a few latent slots by distilling KV caches."""

__version__ = "0.1.0"
