import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.data.batches import length_batches


@given(st.lists(st.integers(0, 500), max_size=300), st.integers(1, 40), st.integers(0, 5), st.integers(0, 5))
def test_every_index_comes_once_and_all_batches_but_the_last_are_full(
    lengths: list[int], size: int, seed: int, epoch: int
) -> None:
    batches = length_batches(lengths, size, seed, epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(0 < len(batch) <= size for batch in batches)
    assert batches == length_batches(lengths, size, seed, epoch)


def test_batches_by_hand() -> None:
    """Two lengths, half and half: sorting puts no two of them into one batch."""
    batches = length_batches([5, 9] * 8, 4, seed=0, epoch=0)
    assert sorted(len({index % 2 for index in batch}) for batch in batches) == [1, 1, 1, 1]


def test_there_is_little_padding_and_every_epoch_differs() -> None:
    rng = random.Random(0)
    lengths = [int(rng.expovariate(1 / 60)) + 5 for _ in range(5000)]
    batches = length_batches(lengths, 16, seed=1, epoch=0)
    plain = [list(range(first, first + 16)) for first in range(0, 4992, 16)]
    padding = [
        sum(max(lengths[i] for i in batch) - lengths[i] for batch in way for i in batch)
        for way in (batches, plain)
    ]
    assert padding[0] < 0.1 * padding[1]
    means = [sum(lengths[i] for i in batch) / len(batch) for batch in batches]
    assert abs(sum(means[:100]) / 100 - sum(means[-100:]) / 100) < 20
    assert batches != length_batches(lengths, 16, seed=1, epoch=1)
    assert batches != length_batches(lengths, 16, seed=2, epoch=0)


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size is 0. Choose 1 or more"):
        length_batches([1], 0, 0, 0)
