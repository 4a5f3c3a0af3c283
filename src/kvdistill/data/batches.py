"""Batches of samples of similar length, in random order."""

import random
from collections.abc import Sequence

POOL = 50
"""Batches that are sorted by length together: more means less padding, fewer means more chance."""


def length_batches(lengths: Sequence[int], batch_size: int, seed: int | str, epoch: int) -> list[list[int]]:
    """Every index of ``lengths`` once, in batches of ``batch_size`` (the last may be smaller) whose members
    are of similar length.

    Indices are shuffled, cut into pools of ``POOL`` batches, sorted by length inside each pool, and the full
    batches shuffled again. The same arguments give the same batches on every machine; another ``epoch`` gives
    others.

    Raises:
        ValueError: if ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}. Choose 1 or more.")
    rng = random.Random(f"batches/{seed}/{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    # The odd ones out are chosen by chance, before sorting, or the shortest samples would always end up in
    # the small batch.
    whole = len(order) - len(order) % batch_size
    rest = order[whole:]
    pool = batch_size * POOL
    batches: list[list[int]] = []
    for first in range(0, whole, pool):
        members = sorted(order[first : min(first + pool, whole)], key=lambda index: lengths[index])
        batches += [members[i : i + batch_size] for i in range(0, len(members), batch_size)]
    rng.shuffle(batches)
    return [*batches, rest] if rest else batches
