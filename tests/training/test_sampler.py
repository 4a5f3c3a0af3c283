"""The order of training: every sample once an epoch, and the same batches for any number of processes."""

from collections.abc import Iterator
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.data.batches import length_batches
from kvdistill.training.ranks import Ranks
from kvdistill.training.sampler import EpochLoader, RankBatches, whole_batches


def orders(sampler: RankBatches, epochs: int = 2) -> Iterator[list[list[int]]]:
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        yield list(sampler)


@given(
    st.lists(st.integers(1, 50), min_size=8, max_size=60),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 2),
)
def test_processes_share_out_what_one_process_with_the_whole_batch_sees(
    lengths: list[int], size: int, ranks: int, least: int
) -> None:
    if size < least:
        size = least
    shares = [RankBatches(lengths, size, 7, Ranks(rank, ranks), least) for rank in range(ranks)]
    whole = whole_batches(lengths, size * ranks, 7, 1, least * ranks)
    for share in shares:
        share.set_epoch(1)
        assert len(share) == len(whole)
    together = [sorted(chain.from_iterable(parts)) for parts in zip(*shares, strict=True)]
    assert together == [sorted(batch) for batch in whole]
    assert sorted(chain.from_iterable(together)) == list(range(len(lengths)))
    assert all(len(part) >= least for share in shares for part in share), (
        "no process is left without a sample"
    )


def test_one_process_sees_the_length_batches_themselves() -> None:
    lengths = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    first, second = orders(RankBatches(lengths, 4, 5))
    assert [first, second] == [length_batches(lengths, 4, 5, epoch) for epoch in (0, 1)]
    assert first != second


def test_a_last_batch_that_is_too_small_joins_the_one_before() -> None:
    assert [len(batch) for batch in whole_batches([1] * 9, 4, 0, 0)] == [4, 4, 1]
    assert [len(batch) for batch in whole_batches([1] * 9, 4, 0, 0, least=2)] == [4, 5]
    with pytest.raises(
        ValueError,
        match=r"1 examples are too few for a batch: 2 are needed, .* Give more data, or start fewer "
        r"processes\.",
    ):
        whole_batches([1], 4, 0, 0, least=2)


def test_the_loader_hands_the_epoch_on() -> None:
    sampler = RankBatches([1, 2, 3, 4], 2, 0)
    loader = EpochLoader(range(4), batch_sampler=sampler, collate_fn=list)
    loader.set_epoch(3)
    assert list(loader) == list(whole_batches([1, 2, 3, 4], 2, 0, 3))
