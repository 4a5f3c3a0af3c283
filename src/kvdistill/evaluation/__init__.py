"""Evaluation: accuracy and cost per reasoning mode, and probes of the latent slots."""
