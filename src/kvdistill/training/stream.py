"""Training from a stream of samples: shuffled in windows, read once, continued exactly where a checkpoint
left it.
"""

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
"""Where a source stands: JSON that only the source understands; None is its beginning."""
SHORT = 0.9
"""Share of the rows that it promises which a pass over a stream has to give."""
Read = Callable[[Cursor, int], tuple[Sequence[Encoded], Cursor]]
"""Asked for so many samples from a place on; gives them (fewer only at the end of a pass) and the place
behind them.
"""


class BatchIndex(NamedTuple):
    """A batch by its number in an epoch: the only thing that is drawn ahead and skipped, so skipping reads
    nothing.
    """

    epoch: int
    number: int


class StreamSampler(Sampler[list[BatchIndex]]):
    """The batches of an epoch by number: ``count`` of them, or without end."""

    def __init__(self, count: int | None = None) -> None:
        self.count, self.epoch = count, 0

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("an endless stream has no length")
        return self.count

    def __iter__(self) -> Iterator[list[BatchIndex]]:
        for number in range(self.count) if self.count is not None else itertools.count():
            yield [BatchIndex(self.epoch, number)]


def unwrap_worker_error(error: Exception) -> str:
    """What an error says, without the traceback that torch wraps round one of a loader's worker."""
    said, kind = str(error), type(error)
    if not said.startswith(f"Caught {kind.__name__} in DataLoader worker"):
        return said
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return said.rpartition(f"\n{name}: ")[2].strip()


@dataclass(frozen=True)
class StreamState:
    """Where a stream stands after a batch: the window that the batch came from, and how much of it is used
    up.
    """

    epoch: int = 0
    number: int = 0
    """The batch that comes next."""
    window: int = 0
    """Windows before this one, over all passes."""
    cursor: Cursor = None
    """Where the window begins."""
    taken: int = 0
    """Batches of the window that are used up."""

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; ``Place(**plain)`` is the way back."""
        return asdict(self)


@dataclass(frozen=True)
class StreamBatch:
    """This process's samples of a batch, and where the stream stands behind it."""

    samples: Sequence[Encoded]
    place: StreamState


@dataclass
class Stream(Dataset[StreamBatch]):
    """Batches of similar length from a source that is read once from front to back.

    ``POOL`` batches make a window; inside it the order is that of map-style training, a function of seed and
    window alone. What continues from a ``Place`` re-reads one window at most. Every process reads the whole
    stream and keeps its share. Where a pass ends with fewer samples than its last window can share out,
    ``least`` a process, these are left out.

    Source: ours.
    """

    read: Read
    batch_size: int
    """Samples a process."""
    seed: int
    ranks: Ranks = field(default_factory=Ranks)
    least: int = 1
    count: int | None = None
    """Batches an epoch, where one pass over the source makes an epoch; None for one epoch of endlessly many
    passes.
    """
    rows: int = 0
    """Usable rows that a pass promises; it may give a few less."""
    start: StreamState = field(default_factory=StreamState)
    """Where the first batch that is asked for begins."""
    _running: Iterator[StreamBatch] | None = None
    _next: BatchIndex | None = None

    def __len__(self) -> int:
        """Batches an epoch, where they are known."""
        if self.count is None:
            raise TypeError("an endless stream has no length")
        return self.count

    def __getitem__(self, ticket: BatchIndex) -> StreamBatch:
        """The batch of a ticket: the next in order, the first of an epoch, or the one at ``start``.

        Raises:
            ValueError: if another batch is asked for, or the source is empty or much shorter than its epoch.
        """
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
            if len(samples) >= self.least * self.ranks.size:  # fewer cannot be shared out
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
            if after is None and cursor is None and len(samples) < self.least * self.ranks.size:
                return
            window, cursor, taken = window + 1, after, 0

    def _require_enough(self, seen: int) -> None:
        """A pass may fall a little short of its epoch, by rows that were left out, and then begins again; but
        not by much.
        """
        if seen < SHORT * self.rows:
            raise ValueError(
                f"The stream ended after {seen} usable rows, and the subset size promises {self.rows}. Lower "
                "--subset_size (data.train.limit), or leave it out and give training.max_steps."
            )
