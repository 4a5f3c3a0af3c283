"""Training data as Trainer takes it: the data set, the sampler of its batches, and the collate function."""

from collections.abc import Callable, Sequence
from typing import Any

from kvdistill.config import FileData, HubData, RunConfig
from kvdistill.data.collate import collate
from kvdistill.data.encode import num_tokens
from kvdistill.data.readers import Reader
from kvdistill.run.samples import Samples
from kvdistill.run.stream import SampleStream
from kvdistill.run.windows import Window
from kvdistill.text import Encoded, Example
from kvdistill.training.ranks import Ranks
from kvdistill.training.sampler import RankBatches
from kvdistill.training.stream import Stream, StreamBatch, StreamSampler


def training_data(config: RunConfig, from_files: Samples, ranks: Ranks) -> tuple[Any, Any]:
    """The training data set, and the sampler that yields this process's batches in order.

    Args:
        config: the run's configuration.
        from_files: reads and encodes the samples.
        ranks: the processes of the run.
    """
    section, data = config.training, config.data.train
    least = 2 if config.paired else 1  # samples a process: a control may need a partner in the batch
    if not isinstance(data, FileData | HubData) or not data.streaming:
        samples = from_files.read(data, "train")
        return samples, RankBatches(
            [num_tokens(sample) for sample in samples], section.batch_size, section.seed, ranks, least
        )
    stream = Stream(SampleStream(from_files, data), section.batch_size, section.seed, ranks, least)
    if section.max_steps < 1:
        stream.rows = data.limit or 0
        full, rest = divmod(stream.rows, section.batch_size * ranks.size)
        stream.count = max(1, full + (rest >= least * ranks.size))  # a smaller rest joins the last batch
    return stream, StreamSampler(stream.count)


def collate_batch(
    found: Sequence[Encoded] | Sequence[StreamBatch],
    pad_id: int,
    readers: dict[str, Reader],
    sampler: RankBatches | StreamSampler | None = None,
    windows: Sequence[Window] = (),
    competence: Callable[[Example], Sequence[float]] | None = None,
) -> dict[str, Any]:
    """Called in the loader's workers.

    Args:
        found: samples, or the one batch of a stream.
        pad_id: token id of padding.
        readers: by short name, the teachers that read other tokens or texts than the student's teacher mode.
        sampler: the sampler of the batches, whose epoch is that of the readers; None for epoch 0. Workers
            have a copy of it, made at the start of each epoch.
        windows: the longest text of each teacher; the rows of a stream are checked here, those of a data set
            have been before training.
        competence: competence of each teacher for an example; None where no fusion uses it.

    Raises:
        ValueError: if a row of a stream is longer than a teacher reads; names the row.
    """
    epoch = 0
    if sampler is not None:
        epoch = sampler.epoch
    first = found[0]
    if isinstance(first, StreamBatch):
        batch = collate(first.samples, pad_id, readers=readers, epoch=epoch, competence=competence)
        for window in windows:
            window.check(batch, first.samples)
        return {"batch": batch, "place": first.place}
    samples: Any = found
    return {"batch": collate(samples, pad_id, readers=readers, epoch=epoch, competence=competence)}
