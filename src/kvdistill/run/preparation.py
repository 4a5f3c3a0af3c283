"""What a run makes before its first step where it does not exist yet: sampled chains of thought."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kvdistill.config import RunConfig, TeacherSection
from kvdistill.records.traces import samples_file, traces_log
from kvdistill.run.samples import examples
from kvdistill.run.sampling import sample_chains
from kvdistill.run.teacher_models import option_of
from kvdistill.run.writing import open_writer
from kvdistill.training.ranks import Ranks


def prepare_chains(config: RunConfig, ranks: Ranks, say: Callable[[str], None]) -> None:
    """Sample the chains of teachers with ``reads = "own"`` whose ``traces`` do not exist or are incomplete.

    Rank 0 samples, and the others wait; runs that share a folder wait for each other. Complete files are not
    touched.

    Args:
        config: the run's configuration.
        ranks: the processes of the run.
        say: prints a line.

    Raises:
        ValueError: if a teacher cannot be loaded or is never right.
    """
    writers = {
        section.traces: (name, section)
        for name, section in config.active_teachers.items()
        if isinstance(section, TeacherSection) and section.traces is not None
    }
    if config.reads_teachers and ranks.rank == 0:
        for path, (name, section) in writers.items():
            folder = Path(path)
            if folder.suffix == ".jsonl":
                continue  # a file, which another command has written
            with _alone(folder):
                if is_complete(folder):
                    continue
                number = config.sampling.num_samples
                say(f"{option_of(name)}: {number} chains a question are sampled to {folder}")
                found = examples(config.data.train).examples
                sample_chains(open_writer(name, section, config.data), found, folder, config.sampling, say)
    ranks.wait()


def is_complete(folder: Path) -> bool:
    """Whether a folder holds chains for all questions that its header names."""
    path = samples_file(folder)
    if not path.is_file():
        return False
    lines = path.read_bytes().split(b"\n")
    if lines[-1]:
        return False  # half-written
    header, _ = traces_log(folder).read()
    return len(lines) - 2 == header.get("questions")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process samples to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield
