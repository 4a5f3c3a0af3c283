"""From the data sets that a configuration names to the samples that a student reads."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Literal, get_args

from kvdistill.config import DataSection, DataSet, FileData, HubData, SyntheticData
from kvdistill.console.messages import printable
from kvdistill.data import BadRow, DataError, Hub, Loaded, encode_all, load, read_hub
from kvdistill.data.files import form_of, paths_of
from kvdistill.data.quarantine import json_lines, quarantine
from kvdistill.data.sources import is_text
from kvdistill.data.stream import LineFiles
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.jsonfile import write_atomic
from kvdistill.run.student import template_of
from kvdistill.text import Encoded, Example

Role = Literal["train", "validation", "test"]


@dataclass
class Samples:
    """Reads data sets for one student; remembers in words what was left out."""

    section: DataSection
    model: LatentReasoner
    folder: Path
    """Where rows that cannot be used are kept."""
    direct: bool = False
    """Leave the chains of thought out."""
    first: bool = True
    """Whether this process tells the user, and keeps a stream's quarantine."""
    notes: list[str] = field(default_factory=list)

    def read(self, data: DataSet, role: Role = "train") -> tuple[Encoded, ...]:
        """All samples of a data set.

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
        return self.usable(loaded.examples[:limit], role, loaded.bad)

    def usable(
        self, found: Sequence[Example], role: Role = "train", bad: Sequence[BadRow] | None = None
    ) -> tuple[Encoded, ...]:
        """Examples as the student reads them; reports how many are too long.

        With ``bad`` (the rows in quarantine) those examples are kept in the quarantine file behind them.

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
            bare = sum(not sample.cot.ids for sample in samples)
            self.say(
                f"{bare} of {len(samples)} train examples have no chain of thought to distil"
                if bare and not self.direct
                else ""
            )
        return samples

    def require_chains(self, samples: Sequence[Encoded]) -> None:
        """Refuse training data in which nothing is reasoned.

        Raises:
            DataError: if no sample has a chain of thought, although chains are to be learnt.
        """
        if not self.direct and samples and not any(sample.cot.ids for sample in samples):
            raise DataError(
                f"None of {len(samples)} training examples has a chain of thought, so there is nothing to "
                "distil: give data with reasoning "
                "steps, or train on answers alone (--training.task direct)."
            )

    def encode(self, found: Sequence[Example]) -> tuple[tuple[Encoded, ...], tuple[tuple[str, str], ...]]:
        """Examples as the student reads them, and those left out with the reason."""
        if self.model.tokenizer is None:
            raise ValueError(
                "The student was saved without its tokenizer: its folder must hold tokenizer_config.json."
            )
        if self.direct:
            found = [replace(example, steps=()) for example in found]
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
        """Remove the quarantine of an earlier run."""
        for role in get_args(Role):
            self.quarantine_of(role).unlink(missing_ok=True)

    def quarantine_of(self, role: Role) -> Path:
        """The file of the rows that cannot be used."""
        return self.folder / f"quarantine_{role}.jsonl"

    def say(self, note: str) -> None:
        """Tell the user, and remember for the end of the run."""
        if note:
            if self.first:
                print(printable(note), file=sys.stderr)
            self.notes.append(printable(note))


def fingerprint(samples: Sequence[Encoded]) -> str:
    """What tells these samples, in this order, from others: a hash of their token ids."""
    seen = blake2b(digest_size=16)
    for sample in samples:
        parts = (sample.question, sample.cue, sample.student_cue, sample.cot, sample.prompt, sample.answer)
        seen.update(repr([part.ids for part in parts]).encode())
    return seen.hexdigest()


def require_files(section: DataSection) -> None:
    """Refuse a configuration whose data files cannot be read, before anything large is loaded: a glance at
    each file's first line.

    Raises:
        DataError: naming the path.
    """
    for data in (section.train, section.validation, section.test):
        if isinstance(data, FileData):
            as_text = is_text(data.format, data.path)
            if data.streaming:
                LineFiles.matching(data.path, as_text)
            for path in paths_of(data.path):
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
    """The samples of one data set; says aloud what was left out.

    Raises:
        ValueError: as ``Samples.read`` does.
    """
    return Samples(section, model, folder).read(data, role)


def examples(data: DataSet) -> Loaded:
    """The problems that a data set names.

    Raises:
        DataError: if the data set cannot be read.
    """
    if isinstance(data, FileData):
        return load(data.path, data.format)
    if isinstance(data, HubData):
        return read_hub(Hub(name=data.name, config=data.config, split=data.split), data.format)
    return Loaded(data.task.make(data.num, data.split, data.seed), [])
