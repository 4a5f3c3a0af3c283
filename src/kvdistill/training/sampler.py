"""In which order training reads its samples."""

from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

from kvdistill.data.batches import length_batches
from kvdistill.data.encode import num_tokens
from kvdistill.text import Encoded


class LengthSampler(Sampler[int]):
    """Indices in batches of similar length; the order is a function of seed and epoch alone."""

    def __init__(self, samples: Sequence[Encoded], batch_size: int, seed: int) -> None:
        self.lengths = [num_tokens(sample) for sample in samples]
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        for batch in length_batches(self.lengths, self.batch_size, self.seed, self.epoch):
            yield from batch
