"""Streaming data set: shuffled in windows, read once from front to back, resumed exactly at a checkpoint."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from torch.utils.data import Dataset, Sampler

from kvdistill.data.batches import POOL
from kvdistill.data.encode import num_tokens
from kvdistill.text import Encoded
from kvdistill.training.ranks import Ranks
from kvdistill.training.sampler import whole_batches

Cursor = dict[str, Any] | None
"""Position in a source, as JSON that only the source interprets; None is its beginning."""
SHORT = 0.9
"""Fewest usable rows of a pass, as a share of the rows that were announced."""
Read = Callable[[Cursor, int], tuple[Sequence[Encoded], Cursor]]
"""Reads a number of samples from a position on; returns them (fewer only at the end of a pass) and the next
position.
"""


class BatchIndex(NamedTuple):
    """Number of a batch in an epoch, the index of the data set.

    Trainer skips batches on a resume by drawing their indices, which reads no data.
    """

    epoch: int
    number: int


class StreamSampler(Sampler[list[BatchIndex]]):
    """Batch indices of an epoch in order: ``count`` of them, or endless where it is None."""

    def __init__(self, count: int | None = None) -> None:
        self.count, self.epoch = count, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the indices."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("an endless stream has no length")
        return self.count

    def __iter__(self) -> Iterator[list[BatchIndex]]:
        numbers = itertools.count()
        if self.count is not None:
            numbers = range(self.count)
        for number in numbers:
            yield [BatchIndex(self.epoch, number)]


def unwrap_worker_error(error: Exception) -> str:
    """Message of an error, without the traceback that torch adds to errors of data-loader workers."""
    said, kind = str(error), type(error)
    if not said.startswith(f"Caught {kind.__name__} in DataLoader worker"):
        return said
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return said.rpartition(f"\n{name}: ")[2].strip()


@dataclass(frozen=True)
class StreamState:
    """Position of a stream after a batch: the window of the batch, and how many of its batches are used."""

    epoch: int = 0
    number: int = 0
    """Number of the next batch in the epoch."""
    window: int = 0
    """Number of the window, over all passes."""
    cursor: Cursor = None
    """Position in the source where the window begins."""
    taken: int = 0
    """Batches of the window that have been used."""

    def plain(self) -> dict[str, Any]:
        """As a dictionary for JSON; ``StreamState(**plain)`` restores it."""
        return asdict(self)


@dataclass(frozen=True)
class StreamBatch:
    """This process's samples of a batch, and the position of the stream after it."""

    samples: Sequence[Encoded]
    place: StreamState


@dataclass
class Stream(Dataset[StreamBatch]):
    """Batches of similar length from a source that is read once from front to back.

    A window holds ``POOL`` batches; inside it the order is that of map-style training, a function of seed and
    window alone. A resume from a ``StreamState`` re-reads one window at most. Every process reads the entire
    stream and keeps its share. A last window of fewer than ``least`` samples per process is left out.

    Source: ours.
    """

    read: Read
    """The source."""
    batch_size: int
    """Samples per process and batch."""
    seed: int
    ranks: Ranks = field(default_factory=Ranks)
    least: int = 1
    """Fewest samples per process in a batch."""
    count: int | None = None
    """Batches per epoch, an epoch being one pass; None for one endless epoch of many passes."""
    rows: int = 0
    """Announced usable rows per pass; a pass may have slightly fewer (see ``SHORT``)."""
    start: StreamState = field(default_factory=StreamState)
    """Position of the first batch: the checkpoint's after a resume."""
    _running: Iterator[StreamBatch] | None = None
    _next: BatchIndex | None = None

    def __len__(self) -> int:
        """Number of batches per epoch."""
        if self.count is None:
            raise TypeError("an endless stream has no length")
        return self.count

    def __getitem__(self, ticket: BatchIndex) -> StreamBatch:
        """Batch of an index: the next in order, the first of an epoch, or the one at ``start``.

        Raises:
            ValueError: if another batch is asked for, or the source is empty or much shorter than its epoch.
        """
        # Any other index than the next one restarts reading, at an epoch's beginning or at ``start``.
        if ticket != self._next:
            self._running = self._batches(self._place_of(ticket))
        assert self._running is not None
        found = next(self._running, None)
        if found is None:
            least = self.least * self.ranks.size
            raise ValueError(
                f"The stream holds fewer usable rows than the {least} of the smallest batch. Give more data."
            )
        self._next = BatchIndex(ticket.epoch, ticket.number + 1)
        return found

    def first_window(self, least: int = 0) -> Sequence[Encoded]:
        """The samples of the first window of a pass, read again; the stream's place does not change.

        Args:
            least: Fewest samples to read, where a window has fewer.

        Returns:
            Samples of all processes, unshuffled.
        """
        samples, _ = self.read(None, max(least, self.batch_size * self.ranks.size * POOL))
        return samples

    def _place_of(self, ticket: BatchIndex) -> StreamState:
        if ticket.number == 0:
            return StreamState(epoch=ticket.epoch)
        if (self.start.epoch, self.start.number) != ticket:
            raise ValueError(
                f"A stream is read in order: batch {ticket.number} of epoch {ticket.epoch} cannot be "
                "reached from here."
            )
        return self.start

    def _batches(self, place: StreamState) -> Iterator[StreamBatch]:
        number, window, cursor, taken = place.number, place.window, place.cursor, place.taken
        size = self.batch_size * self.ranks.size
        seen = (number - taken) * size
        while True:
            samples, after = self.read(cursor, size * POOL)
            seen += len(samples)
            if len(samples) >= self.least * self.ranks.size:  # fewer leave a process without samples
                lengths = [num_tokens(sample) for sample in samples]
                batches = whole_batches(
                    lengths, size, f"{self.seed}/{place.epoch}", window, self.least * self.ranks.size
                )
                for done, batch in enumerate(batches[taken:], start=taken + 1):
                    number += 1
                    mine = [samples[index] for index in batch[self.ranks.rank :: self.ranks.size]]
                    yield StreamBatch(mine, StreamState(place.epoch, number, window, cursor, done))
            if after is None:
                self._require_enough(seen)
                seen = 0
            # The source as a single window is too small for a batch: reading it again would never end.
            if after is None and cursor is None and len(samples) < self.least * self.ranks.size:
                return
            window, cursor, taken = window + 1, after, 0

    def _require_enough(self, seen: int) -> None:
        """Refuse a pass with far fewer usable rows than announced; a few may be left out as unusable."""
        if seen < SHORT * self.rows:
            raise ValueError(
                f"The stream ended after {seen} usable rows, and the subset size promises {self.rows}. Lower "
                "--subset_size (data.train.limit), or leave it out and give training.max_steps."
            )
