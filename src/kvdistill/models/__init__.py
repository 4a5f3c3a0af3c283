"""Pretrained models: fingerprints, strict loading, and why a load failed."""
