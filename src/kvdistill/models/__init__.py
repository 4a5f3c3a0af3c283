"""Pretrained models: strict loading, weight fingerprints, and diagnosis of failed loads."""
