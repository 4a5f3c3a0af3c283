"""Teach a small language model to reason in a few latent slots by distilling KV caches."""

from kvdistill.latent.auto import register_config

__version__ = "0.1.0"

register_config()
