"""Read, check and encode the data sets of a configuration into the samples that a student trains on."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Literal, get_args

from kvdistill.config import DataSection, DataSet, FileData, HubData, RunConfig, SyntheticData
from kvdistill.config.readings import sampled_files
from kvdistill.console.messages import printable
from kvdistill.data import BadRow, DataError, Hub, Loaded, encode_all, load, read_hub
from kvdistill.data.files import form_of, paths_of
from kvdistill.data.quarantine import json_lines, quarantine
from kvdistill.data.sources import is_text
from kvdistill.data.stream import LineFiles
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.jsonfile import write_atomic
from kvdistill.run.chains import ChainChoice
from kvdistill.run.student import template_of
from kvdistill.text import Encoded, Example

Role = Literal["train", "validation", "test"]


@dataclass
class Samples:
    """Reads and encodes data sets for one student; collects notes on the rows that were left out."""

    section: DataSection
    model: LatentReasoner
    """The student; its tokenizer and template encode the examples."""
    folder: Path
    """Where quarantine files are written."""
    direct: bool = False
    """Drop the chains of thought: training on answers alone."""
    chains: ChainChoice = field(default_factory=ChainChoice)
    """Which training rows have a chain of thought."""
    first: bool = True
    """Whether this is rank 0, which prints notes and writes a stream's quarantine."""
    notes: list[str] = field(default_factory=list)
    """Notes for the user, in order; repeated in TRAINING_COMPLETED.txt."""

    def read(self, data: DataSet, role: Role = "train") -> tuple[Encoded, ...]:
        """Read and encode a data set.

        Args:
            data: a file, a hub data set or an embedded task.
            role: what it is for; names the quarantine file.

        Returns:
            All usable samples, up to the data set's limit.

        Raises:
            ValueError: if nothing is left, or the data set cannot be used.
        """
        loaded = examples(data)
        self.say(
            quarantine(
                loaded.bad,
                len(loaded.examples) + len(loaded.bad),
                self.quarantine_of(role),
                self.section.max_bad_rows,
            )
        )
        limit = None if isinstance(data, SyntheticData) else data.limit
        if limit is not None and limit > len(loaded.examples):
            self.say(
                f"data.{role}.limit is {limit}, and there are only {len(loaded.examples)} usable rows: all "
                "of them are used"
            )
        found = loaded.examples[:limit]
        if role == "train" and not self.direct:
            found, note = self.chains.apply(found)
            self.say(note)
        return self.usable(found, role, loaded.bad)

    def usable(
        self, found: Sequence[Example], role: Role = "train", bad: Sequence[BadRow] | None = None
    ) -> tuple[Encoded, ...]:
        """Encode examples for the student; reports how many are too long.

        Args:
            found: the examples.
            role: what they are for.
            bad: rows already in quarantine; the examples that are too long are appended to them in the
                quarantine file. None writes no file.

        Returns:
            The encoded samples that fit.

        Raises:
            ValueError: if nothing is left.
        """
        samples, dropped = self.encode(found)
        if dropped:
            kept = "" if bad is None else f"; they are in {self.quarantine_of(role)}"
            self.say(
                f"{len(dropped)} of {len(found)} {role} examples left out: {dropped[0][1]}, and the "
                f"like{kept}"
            )
            if bad is not None:
                rows = (BadRow(sample_id, None, reason, "") for sample_id, reason in dropped)
                write_atomic(self.quarantine_of(role), json_lines([*bad, *rows]).decode())
        if not samples:
            most = self.section.max_length
            if most is None:
                raise ValueError(
                    f"No {role} example is left of {len(found)}: all have more characters than any model "
                    "reads. Shorten them."
                )
            raise ValueError(
                f"No {role} example is left of {len(found)}: all are longer than data.max_length = {most}. "
                "Raise it."
            )
        if role == "train":
            self.require_chains(samples)
            bare = sum(not sample.teacher_mode.cot.ids for sample in samples)
            self.say(
                f"{bare} of {len(samples)} train examples have no chain of thought to distil"
                if bare and not self.direct
                else ""
            )
        return samples

    def require_chains(self, samples: Sequence[Encoded]) -> None:
        """Refuse training data without any chain of thought, unless training on answers alone.

        Raises:
            DataError: if no sample has a chain of thought.
        """
        if not self.direct and samples and not any(sample.teacher_mode.cot.ids for sample in samples):
            raise DataError(
                f"None of {len(samples)} training examples has a chain of thought, so there is nothing to "
                "distil: give data with reasoning "
                "steps, or train on answers alone (--training.task direct)."
            )

    def encode(self, found: Sequence[Example]) -> tuple[tuple[Encoded, ...], tuple[tuple[str, str], ...]]:
        """Encode examples with the student's tokenizer and template.

        Args:
            found: the examples.

        Returns:
            The encoded samples, and (sample id, reason) of each example that was left out.
        """
        if self.model.tokenizer is None:
            raise ValueError(
                "The student was saved without its tokenizer: its folder must hold tokenizer_config.json."
            )
        if self.direct:
            found = [replace(example, steps=(), depth=example.dependent_steps) for example in found]
        encoded = encode_all(
            found,
            self.model.tokenizer,
            template_of(self.model),
            drop_last_step=self.section.drop_last_step,
            max_length=self.section.max_length,
            on_long=self.section.on_long,
        )
        return encoded.samples, encoded.dropped

    def forget(self) -> None:
        """Remove the quarantine files of an earlier run."""
        for role in get_args(Role):
            self.quarantine_of(role).unlink(missing_ok=True)

    def quarantine_of(self, role: Role) -> Path:
        """Path of the quarantine file: rows that cannot be used, as JSON lines."""
        return self.folder / f"quarantine_{role}.jsonl"

    def say(self, note: str) -> None:
        """Print a note on stderr (rank 0 only) and keep it; an empty note is ignored."""
        if note:
            if self.first:
                print(printable(note), file=sys.stderr)
            self.notes.append(printable(note))


def samples_of(config: RunConfig, model: LatentReasoner, folder: Path, first: bool = True) -> Samples:
    """What reads the data of a run.

    Args:
        config: the run's configuration.
        model: its student.
        folder: where quarantine files are written.
        first: whether this is rank 0.
    """
    chains = ChainChoice(
        gold_share=config.data.gold_share,
        seed=config.training.seed,
        files=tuple(sampled_files(config)),
    )
    return Samples(config.data, model, folder, config.training.task == "direct", chains, first)


def fingerprint(samples: Sequence[Encoded]) -> str:
    """A hash of the samples' token ids in their order; a resumed run checks it.

    Args:
        samples: the encoded samples.

    Returns:
        32 hexadecimal digits.
    """
    seen = blake2b(digest_size=16)
    for sample in samples:
        read = sample.teacher_mode
        parts = (read.question, read.cue, sample.student_mode.cue, read.cot, read.prompt, read.answer)
        seen.update(repr([part.ids for part in parts]).encode())
    return seen.hexdigest()


def require_files(section: DataSection) -> None:
    """Check that the data files can be read, before a model is loaded; looks at the start of each file.

    Raises:
        DataError: names the path.
    """
    for data in (section.train, section.validation, section.test):
        if isinstance(data, FileData):
            as_text = is_text(data.format, data.path)
            if data.streaming:
                LineFiles.matching(data.path, as_text)
            for path in paths_of(data.path):
                # A pipe can be read only once, so it is not opened here.
                if not path.is_fifo():
                    form_of(path, as_text)
                elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
                    raise DataError(
                        f"{path}: this is a pipe, which only one process can read. Write it to a file, and "
                        "name that."
                    )


def read_data(
    section: DataSection, data: DataSet, model: LatentReasoner, folder: Path, role: Role = "test"
) -> tuple[Encoded, ...]:
    """Read and encode one data set, and print what was left out.

    Args:
        section: how data are read (length limit, share of bad rows).
        data: the data set.
        model: the student whose tokenizer and template encode it.
        folder: where the quarantine file is written.
        role: what it is for.

    Returns:
        All usable samples.

    Raises:
        ValueError: as ``Samples.read`` does.
    """
    return Samples(section, model, folder).read(data, role)


def examples(data: DataSet) -> Loaded:
    """Read a data set without encoding it.

    Returns:
        Its examples, and the rows that cannot be used.

    Raises:
        DataError: if the data set cannot be read.
    """
    if isinstance(data, FileData):
        return load(data.path, data.format)
    if isinstance(data, HubData):
        return read_hub(Hub(name=data.name, config=data.config, split=data.split), data.format)
    return Loaded(data.task.make(data.num, data.split, data.seed), [])
