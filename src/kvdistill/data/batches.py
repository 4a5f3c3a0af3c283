"""Random batches of samples of similar length, which keep padding short."""

import random
from collections.abc import Sequence

POOL = 50
"""Batches that are sorted by length together: more means less padding, fewer means more randomness."""


def length_batches(lengths: Sequence[int], batch_size: int, seed: int | str, epoch: int) -> list[list[int]]:
    """Deal out all samples of an epoch in batches of similar length.

    Indices are shuffled, cut into pools of ``POOL`` batches and sorted by length inside each pool; then the
    full batches are shuffled. The result depends on the arguments alone, not on the machine.

    Args:
        lengths: length of each sample, in tokens.
        batch_size: samples per batch.
        seed: of the shuffling.
        epoch: another epoch gives another order.

    Returns:
        Batches of indices into ``lengths``, each index once; the last batch may be smaller.

    Raises:
        ValueError: if ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}. Choose 1 or more.")
    rng = random.Random(f"batches/{seed}/{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    # The samples of the smaller last batch are drawn before sorting; otherwise they would always be the
    # longest of the last pool.
    whole = len(order) - len(order) % batch_size
    rest = order[whole:]
    pool = batch_size * POOL
    batches: list[list[int]] = []
    for first in range(0, whole, pool):
        members = sorted(order[first : min(first + pool, whole)], key=lambda index: lengths[index])
        batches += [members[i : i + batch_size] for i in range(0, len(members), batch_size)]
    rng.shuffle(batches)
    if rest:
        batches.append(rest)
    return batches
