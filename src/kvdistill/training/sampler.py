"""Batch sampler: the order of samples by seed and epoch, and each process's share of a batch."""

from collections.abc import Iterator, Sequence

from torch.utils.data import DataLoader, Sampler

from kvdistill.data.batches import length_batches
from kvdistill.training.ranks import Ranks


def whole_batches(
    lengths: Sequence[int], size: int, seed: int | str, epoch: int, least: int = 1
) -> list[list[int]]:
    """Batches of an epoch over all processes (see ``length_batches``).

    Args:
        lengths: Tokens per sample.
        size: Samples per batch, over all processes.
        seed: Seed of the order.
        epoch: Number of the epoch.
        least: A last batch of fewer samples is appended to the one before it.

    Returns:
        Indices of samples, every sample once.

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
    """This process's share of every batch; the order is a function of seed and epoch alone.

    A batch over all processes is dealt out sample by sample, so that two processes see in each step the
    samples that one process with twice the batch size sees.

    Args:
        lengths: Tokens per sample.
        batch_size: Samples per process and batch.
        seed: Seed of the order.
        ranks: This process among all; by default the only one.
        least: Fewest samples per process in a batch.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, ranks: Ranks | None = None, least: int = 1
    ) -> None:
        self.lengths, self.seed, self.ranks = lengths, seed, ranks or Ranks()
        self.size, self.least, self.epoch = batch_size * self.ranks.size, least * self.ranks.size, 0
        self._count = len(self._batches())

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the order is drawn for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches():
            yield batch[self.ranks.rank :: self.ranks.size]

    def _batches(self) -> list[list[int]]:
        return whole_batches(self.lengths, self.size, self.seed, self.epoch, self.least)


class EpochLoader(DataLoader):
    """DataLoader that passes the epoch to its batch sampler; Trainer expects this of accelerate's loaders."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the batch sampler; Trainer calls it at the start of each epoch."""
        self.batch_sampler.set_epoch(epoch)  # pyright: ignore
