"""What a run makes before its first step where it does not exist yet: sampled chains, a competence table."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kvdistill.config import RunConfig, TeacherSection
from kvdistill.data.readings import without_chain
from kvdistill.records.competence import COMPETENCE, CompetenceTable
from kvdistill.records.traces import QuestionTraces, samples_file, traces_log
from kvdistill.run.competence import measure_competence, own_chains
from kvdistill.run.samples import examples
from kvdistill.run.sampling import sample_chains
from kvdistill.run.teacher_models import option_of
from kvdistill.run.writers import Writers
from kvdistill.run.writing import open_writer
from kvdistill.text import Example
from kvdistill.training.ranks import Ranks


def prepare(config: RunConfig, ranks: Ranks, say: Callable[[str], None]) -> None:
    """Make what a run reads beside its data and does not exist yet: chains, then the table that counts them.

    Args:
        config: the run's configuration.
        ranks: the processes of the run.
        say: prints a line.

    Raises:
        ValueError: if a teacher cannot be loaded or is never right.
    """
    prepare_chains(config, ranks, say)
    prepare_competence(config, ranks, say)


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
    writers: dict[str, tuple[str, TeacherSection]] = {}
    for name, section in config.live_teachers.items():
        if section.traces is not None:
            writers.setdefault(section.traces, (name, section))
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
                # Not kept in a variable: it has to be gone when the next teacher is loaded.
                sample_chains(
                    open_writer(name, section, config.data),
                    questions_of(config),
                    folder,
                    config.sampling,
                    say,
                )
    ranks.wait()


def prepare_competence(config: RunConfig, ranks: Ranks, say: Callable[[str], None]) -> None:
    """Measure the competence table of a fusion whose ``competence`` does not exist or is incomplete.

    As for chains, rank 0 measures, runs that share the folder wait for each other, and a complete table is
    not touched. The share of right chains of teachers with ``reads = "own"`` is a figure of the table.

    Args:
        config: the run's configuration.
        ranks: the processes of the run.
        say: prints a line.

    Raises:
        ValueError: if a teacher cannot be loaded.
    """
    table = config.fusion.table
    if table is not None and config.reads_teachers and ranks.rank == 0 and Path(table).suffix != ".jsonl":
        folder = Path(table)
        live = config.live_teachers
        with _alone(folder):
            if not (folder / COMPETENCE).is_file() or not _has_all(folder):
                say(f"fusion.competence: {', '.join(live)} are measured on every question, to {folder}")
                writers = Writers(live, config.data)
                drawn = chains_of(writers, say)
                measure_competence(writers, questions_of(config), drawn, folder, say)
    ranks.wait()


def chains_of(writers: Writers, say: Callable[[str], None]) -> dict[str, dict[str, QuestionTraces]]:
    """The chains that the teachers of a configuration have sampled themselves.

    Args:
        writers: the teachers; a teacher's chains are in the ``traces`` of its section.
        say: prints a line where another model wrote a teacher's chains, which are left out.

    Returns:
        By teacher and question.

    Raises:
        FileNotFoundError: if a teacher's ``traces`` do not exist.
        ValueError: if they are damaged or incomplete.
    """
    drawn: dict[str, dict[str, QuestionTraces]] = {}
    for name in writers:
        section = writers.sections[name]
        if section.traces is None:
            continue
        found = own_chains(writers.fingerprints(name).weights, Path(section.traces))
        if found is None:
            say(
                f"{option_of(name)}: another model wrote the chains in {section.traces}, so they are "
                "no figure of this teacher"
            )
            continue
        drawn[name] = found
    return drawn


def questions_of(config: RunConfig) -> list[Example]:
    """The training and validation questions of a run, with the chains of thought that it may read.

    Args:
        config: the run's configuration.

    Returns:
        The examples; without any chain where ``data.gold_share`` hides some.
    """
    found = examples(config.data.train).examples
    if config.data.validation is not None:
        found = [*found, *examples(config.data.validation).examples]
    if config.data.gold_share < 1:
        found = [without_chain(example) for example in found]
    return found


def _has_all(folder: Path) -> bool:
    try:
        CompetenceTable.read(folder)
    except ValueError:
        return False
    return True


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
