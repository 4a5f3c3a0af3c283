"""Training with transformers' Trainer: data order, checkpoints, logging."""
