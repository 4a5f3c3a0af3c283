"""transformers' Trainer with as little beside it as possible; it knows nothing of teachers, targets or
losses.
"""
