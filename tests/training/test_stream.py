"""Training from a stream: every sample once a pass, the same batches for any number of processes, and exact
continuation.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from accelerate import skip_first_batches
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from kvdistill.data import DataError
from kvdistill.data.batches import POOL
from kvdistill.text import Encoded, Example, Reading, Segment
from kvdistill.training.ranks import Ranks
from kvdistill.training.sampler import EpochLoader
from kvdistill.training.stream import (
    BatchIndex,
    Stream,
    StreamBatch,
    StreamSampler,
    StreamState,
    unwrap_worker_error,
)

Cursor = dict[str, Any] | None


def sample(number: int, length: int) -> Encoded:
    """A sample of so many tokens, called by its number."""
    nothing = Segment("", (), ())
    question = Segment("?" * length, (1,) * length, tuple((i, i + 1) for i in range(length)))
    example = Example(question=question.text, steps=(), answer="", sample_id=str(number))
    reading = Reading(question, nothing, nothing, nothing, nothing, ())
    return Encoded(str(number), reading, reading, example)


class Source:
    """Samples of given lengths, read from front to back; counts what is read."""

    def __init__(self, lengths: list[int]) -> None:
        self.samples = [sample(number, length) for number, length in enumerate(lengths)]
        self.read: list[str] = []

    def __call__(self, cursor: Cursor, wanted: int) -> tuple[list[Encoded], Cursor]:
        at = 0 if cursor is None else cursor["at"]
        found = self.samples[at : at + wanted]
        self.read += [each.sample_id for each in found]
        return found, {"at": at + wanted} if len(found) == wanted else None


def ids(batch: StreamBatch) -> list[str]:
    return [each.sample_id for each in batch.samples]


def drawn(stream: Stream, num: int, epoch: int = 0, first: int = 0) -> list[StreamBatch]:
    return [stream[BatchIndex(epoch, number)] for number in range(first, num)]


def one_pass(source: Source, size: int, least: int = 1) -> list[list[str]]:
    """The batches of the first pass."""
    stream, batches = Stream(source, size, 0, least=least), []
    for number in range(len(source.samples) + 1):
        batch = stream[BatchIndex(0, number)]
        if batch.place.window and batch.place.cursor is None:
            return batches
        batches.append(ids(batch))
    raise AssertionError("a pass does not end")


lengths_of = st.lists(st.integers(1, 30), min_size=1, max_size=260)


# What is read, and in which order.


@given(lengths_of, st.integers(1, 3))
def test_every_sample_comes_once_a_pass(lengths: list[int], size: int) -> None:
    batches = one_pass(Source(lengths), size)
    assert sorted(int(each) for batch in batches for each in batch) == list(range(len(lengths)))
    rest = len(lengths) % size
    assert Counter(map(len, batches)) == Counter([size] * (len(lengths) // size) + ([rest] if rest else []))


@given(lengths_of, st.integers(2, 3))
def test_a_rest_too_small_for_a_batch_joins_the_one_before(lengths: list[int], size: int) -> None:
    if len(lengths) < 2:
        lengths = [*lengths, 1]
    batches = one_pass(Source(lengths), size, least=2)
    alone = len(lengths) % (size * POOL) == 1  # a last window of one sample has no batch to join
    assert (
        len({each for batch in batches for each in batch}) == sum(map(len, batches)) == len(lengths) - alone
    )
    assert min(map(len, batches)) >= 2


def test_the_order_is_a_function_of_seed_epoch_and_window_alone() -> None:
    lengths = [1 + (7 * i) % 23 for i in range(230)]

    def order(seed: int, epoch: int) -> list[list[str]]:
        return [ids(batch) for batch in drawn(Stream(Source(lengths), 2, seed), 115, epoch)]

    assert order(3, 0) == order(3, 0)
    assert order(3, 0) != order(4, 0) != order(3, 1) != order(3, 0)
    first, second, third = (order(3, 0)[start : start + 50] for start in (0, 50, 100))
    for number, window in enumerate((first, second, third)):
        assert {each for batch in window for each in batch} == set(
            map(str, range(100 * number, min(100 * number + 100, 230)))
        )
    assert [[int(i) % 100 for i in batch] for batch in first] != [
        [int(i) % 100 for i in batch] for batch in second
    ]


def test_a_second_pass_has_another_order() -> None:
    stream = Stream(Source([1] * 20), 2, 0)
    first, second = ([ids(batch) for batch in drawn(stream, last, first=last - 10)] for last in (10, 20))
    assert {i for batch in first for i in batch} == {i for batch in second for i in batch}
    assert first != second


def test_a_batch_holds_samples_of_similar_length() -> None:
    batches = one_pass(Source([1 + (i * 37) % 100 for i in range(200)]), 4)
    assert all(
        max(int(i) * 37 % 100 for i in batch) - min(int(i) * 37 % 100 for i in batch) <= 2
        for batch in batches
    )


@given(lengths_of, st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
def test_processes_share_out_what_one_with_the_whole_batch_sees(
    lengths: list[int], size: int, ranks: int, least: int
) -> None:
    size = max(size, least)
    lengths = (lengths * (least * ranks))[: max(len(lengths), least * ranks)]
    shares = [Stream(Source(lengths), size, 7, Ranks(rank, ranks), least) for rank in range(ranks)]
    whole = Stream(Source(lengths), size * ranks, 7, least=least * ranks)
    for number in range(40):
        parts = [share[BatchIndex(0, number)] for share in shares]
        one = whole[BatchIndex(0, number)]
        assert sorted(i for part in parts for i in ids(part)) == sorted(ids(one))
        assert all(part.place == one.place for part in parts), (
            "every process can take up what the first one saved"
        )
        assert all(len(part.samples) >= least for part in parts)


# Going on.


@given(lengths_of, st.integers(1, 3), st.integers(1, 2), st.data())
def test_from_any_place_the_same_batches_follow(
    lengths: list[int], size: int, least: int, data: st.DataObject
) -> None:
    """An endless stream over pass boundaries, cut anywhere."""
    size, lengths = max(size, least), lengths + [1] * (2 - min(len(lengths), 2))
    whole = Stream(Source(lengths), size, 5, least=least)
    num = 3 * (len(lengths) // size + 2)
    batches = drawn(whole, num)
    cut = data.draw(st.integers(1, num - 1))
    place = StreamState(**json.loads(json.dumps(batches[cut - 1].place.plain())))
    assert place == batches[cut - 1].place
    assert place.number == cut
    rest = Stream(Source(lengths), size, 5, least=least, start=place)
    for wanted in batches[cut:]:
        found = rest[BatchIndex(0, wanted.place.number - 1)]
        assert ids(found) == ids(wanted)
        assert found.place == wanted.place


@given(st.integers(1, 119))
def test_going_on_reads_one_window_again_and_no_more(cut: int) -> None:
    lengths = [1 + i % 9 for i in range(240)]  # windows of 50, 50 and 20 batches
    place = drawn(Stream(Source(lengths), 2, 5), cut)[-1].place
    source = Source(lengths)
    rest = Stream(source, 2, 5, start=place)
    rest[BatchIndex(0, cut)]
    window = (cut - 1) // 50  # the one that the last batch came from
    again = [str(i) for i in range(100 * window, min(100 * window + 100, 240))]
    further = [] if cut % 50 else [str(i) for i in range(100 * window + 100, min(100 * window + 200, 240))]
    assert source.read == again + further


def test_other_batches_cannot_be_reached() -> None:
    stream = Stream(Source([1] * 30), 2, 0, start=StreamState(epoch=2, number=5, taken=5))
    assert ids(stream[BatchIndex(2, 5)]) == ids(drawn(Stream(Source([1] * 30), 2, 0), 6, epoch=2)[5])
    with pytest.raises(
        ValueError, match=r"A stream is read in order: batch 9 of epoch 2 cannot be reached from here\."
    ):
        stream[BatchIndex(2, 9)]
    with pytest.raises(ValueError, match=r"batch 5 of epoch 1 cannot be reached"):
        stream[BatchIndex(1, 5)]
    assert ids(stream[BatchIndex(3, 0)]) == ids(Stream(Source([1] * 30), 2, 0)[BatchIndex(3, 0)]), (
        "a new epoch begins at the beginning"
    )


# Epochs of so many batches, and streams that hold too little.


def test_an_epoch_that_falls_a_little_short_begins_again() -> None:
    batches = [ids(batch) for batch in drawn(Stream(Source([1] * 19), 2, 0, count=11, rows=21), 11)]
    assert sorted({i for batch in batches[:10] for i in batch}, key=int) == list(map(str, range(19)))
    assert len(batches[10]) == 2


def test_an_epoch_that_falls_far_short_is_refused() -> None:
    stream = Stream(Source([1] * 17), 2, 0, count=10, rows=20)
    batches = drawn(stream, 9)
    said = (
        r"ended after 17 usable rows, and the subset size promises 20\. Lower --subset_size "
        r"\(data\.train\.limit\)"
    )
    for late in (stream, Stream(Source([1] * 17), 2, 0, count=10, rows=20, start=batches[-1].place)):
        with pytest.raises(ValueError, match=said):
            late[BatchIndex(0, 9)]


@pytest.mark.parametrize(("num", "least"), [(17, 2), (16, 1)])
def test_a_few_rows_less_than_the_last_of_few_batches_are_no_reason_to_stop(num: int, least: int) -> None:
    """--subset_size 17 with a control: batches of 8 and 9, where 17 / 8 promised three."""
    assert len(drawn(Stream(Source([1] * num), 8, 0, least=least, count=3, rows=17), 3)) == 3
    for size in (8, 17):
        with pytest.raises(ValueError, match="ended after 9 usable rows"):
            drawn(Stream(Source([1] * 9), size, 0, least=least, count=-(-17 // size), rows=17), 3)


@pytest.mark.parametrize(("num", "least", "ranks"), [(0, 1, 1), (1, 2, 1), (1, 1, 2), (3, 2, 2)])
def test_an_empty_stream_is_refused(num: int, least: int, ranks: int) -> None:
    stream = Stream(Source([1] * num), 4, 0, Ranks(0, ranks), least)
    with pytest.raises(
        ValueError,
        match=rf"The stream holds fewer usable rows than the {least * ranks} of the smallest batch\. Give "
        r"more",
    ):
        stream[BatchIndex(0, 0)]


def test_a_stream_that_was_emptied_while_away_is_refused() -> None:
    stream = Stream(Source([]), 2, 0, start=StreamState(number=60, window=1, cursor={"at": 100}, taken=10))
    with pytest.raises(ValueError, match="fewer usable rows"):
        stream[BatchIndex(0, 60)]


# In loaders.


def test_tickets_are_counted_and_know_their_epoch() -> None:
    tickets = StreamSampler(3)
    tickets.set_epoch(4)
    assert list(tickets) == [[BatchIndex(4, 0)], [BatchIndex(4, 1)], [BatchIndex(4, 2)]]
    assert len(tickets) == 3
    assert len(list(islice(StreamSampler(), 1000))) == 1000
    with pytest.raises(TypeError, match="an endless stream has no length"):
        len(StreamSampler())


def loader(
    stream: Stream, count: int | None = None, workers: int = 0, make: Callable[..., DataLoader] = EpochLoader
) -> DataLoader:
    return make(
        stream, batch_sampler=StreamSampler(count), collate_fn=lambda found: found[0], num_workers=workers
    )  # pyright: ignore


def several(batches: Iterator[StreamBatch], num: int) -> list[tuple[list[str], StreamState]]:
    return [(ids(batch), batch.place) for batch in islice(batches, num)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_reads_epoch_after_epoch(workers: int) -> None:
    lengths = [1 + i % 5 for i in range(20)]
    batches = loader(Stream(Source(lengths), 2, 0), 10, workers)
    for epoch in (0, 1):
        batches.set_epoch(epoch)  # pyright: ignore
        wanted = [(ids(batch), batch.place) for batch in drawn(Stream(Source(lengths), 2, 0), 10, epoch)]
        assert several(iter(batches), 99) == wanted


@pytest.mark.parametrize("workers", [0, 1])
def test_skipped_batches_are_not_read(workers: int) -> None:
    lengths = [1 + i % 5 for i in range(300)]
    whole = drawn(Stream(Source(lengths), 2, 0), 130)
    source = Source(lengths)
    stream = Stream(source, 2, 0, start=whole[109].place)
    rest = skip_first_batches(loader(stream, workers=workers), 110)
    assert several(iter(rest), 20) == [(ids(batch), batch.place) for batch in whole[110:]]
    if not workers:
        assert set(source.read) == set(map(str, range(200, 300))), "only the window of the first batch"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", [ValueError, DataError])
def test_an_error_says_the_same_from_a_worker(workers: int, kind: type[ValueError]) -> None:
    def read(cursor: Any, wanted: int) -> Any:
        raise kind("rows.jsonl, line 3:\nit is torn. Repair it.")

    with pytest.raises(kind) as caught:
        next(iter(loader(Stream(read, 2, 0), workers=workers)))
    assert unwrap_worker_error(caught.value) == "rows.jsonl, line 3:\nit is torn. Repair it."


def test_a_loader_goes_on_within_a_later_epoch() -> None:
    lengths = [1 + i % 5 for i in range(20)]
    wanted = drawn(Stream(Source(lengths), 2, 0, count=10), 10, epoch=3)
    stream = Stream(Source(lengths), 2, 0, count=10, start=replace(wanted[3].place))
    rest = skip_first_batches(loader(stream, 10), 4)
    rest.batch_sampler.batch_sampler.set_epoch(3)  # as Trainer does
    assert several(iter(rest), 99) == [(ids(batch), batch.place) for batch in wanted[4:]]


def test_reading_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    drawn(Stream(Source([1] * 30), 2, 0), 20)
    assert torch.equal(torch.get_rng_state(), before)
