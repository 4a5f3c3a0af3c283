"""In which order training reads its samples, and which of them are this process's."""

from collections.abc import Iterator, Sequence

from torch.utils.data import DataLoader, Sampler

from kvdistill.data.batches import length_batches
from kvdistill.training.ranks import Ranks


def whole_batches(
    lengths: Sequence[int], size: int, seed: int | str, epoch: int, least: int = 1
) -> list[list[int]]:
    """The batches of an epoch over all processes (see ``length_batches``); a last one of fewer than ``least``
    joins the one before.

    Raises:
        ValueError: if there are fewer than ``least`` samples at all.
    """
    if len(lengths) < least:
        raise ValueError(
            f"{len(lengths)} examples are too few for a batch: {least} are needed, so that every process "
            "has one (two where a control "
            "takes its target from another sample). Give more data, or start fewer processes."
        )
    batches = length_batches(lengths, size, seed, epoch)
    if len(batches[-1]) < least:
        last = batches.pop()
        batches[-1] = batches[-1] + last
    return batches


class RankBatches(Sampler[list[int]]):
    """This process's share of every batch; the order is a function of seed and epoch alone, whatever the
    number of processes.

    A batch of the run holds ``batch_size`` samples a process. The processes share it out in turns, so that a
    run of two processes sees, step by step, what one process with twice the batch size sees.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, ranks: Ranks | None = None, least: int = 1
    ) -> None:
        self.lengths, self.seed, self.ranks = lengths, seed, ranks or Ranks()
        self.size, self.least, self.epoch = batch_size * self.ranks.size, least * self.ranks.size, 0
        self._count = len(self._batches())

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches():
            yield batch[self.ranks.rank :: self.ranks.size]

    def _batches(self) -> list[list[int]]:
        return whole_batches(self.lengths, self.size, self.seed, self.epoch, self.least)


class EpochLoader(DataLoader):
    """A DataLoader that passes the epoch on to its batch sampler, as Trainer expects of accelerate's."""

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.batch_sampler.set_epoch(epoch)  # pyright: ignore
