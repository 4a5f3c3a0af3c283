"""From the data sets that a configuration names to the samples that a student reads."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from kvdistill.config import DataSection, DataSet, FileData, HubData
from kvdistill.data import BadRow, DataError, Hub, Loaded, RowStream, encode_all, load, quarantine, read_hub
from kvdistill.data.files import form_of, paths_of
from kvdistill.data.quarantine import json_lines
from kvdistill.data.sources import is_text
from kvdistill.data.stream import Cursor, LineFiles
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.students import template_of
from kvdistill.text import Encoded, Example

Role = Literal["train", "validation", "test"]
FEW = 1000
"""Rows of a stream before the share of malformed ones means something."""


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
        self._say(quarantine(loaded.bad, len(loaded.examples) + len(loaded.bad), self._quarantine(role), self.section.max_bad_rows))
        return self.usable(loaded.examples[: data.limit if isinstance(data, FileData | HubData) else None], role)

    def usable(self, found: Sequence[Example], role: Role = "train") -> tuple[Encoded, ...]:
        """Examples as the student reads them; says aloud how many are too long.

        Raises:
            ValueError: if nothing is left.
        """
        samples, dropped = self.encode(found)
        if dropped:
            self._say(f"{len(dropped)} of {len(found)} {role} examples left out: {dropped[0][1]}, and the like")
        if not samples:
            raise ValueError(
                f"No {role} example is left of {len(found)}: all are longer than data.max_length = {self.section.max_length}. Raise it."
            )
        return samples

    def encode(self, found: Sequence[Example]) -> tuple[tuple[Encoded, ...], tuple[tuple[str, str], ...]]:
        """Examples as the student reads them, and those left out with the reason."""
        if self.model.tokenizer is None:
            raise ValueError("The student was saved without its tokenizer: its folder must hold tokenizer_config.json.")
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

    def stream(self, data: FileData | HubData) -> "SampleStream":
        """The training samples, read while training."""
        return SampleStream(self, data, self._quarantine("train"))

    def forget(self) -> None:
        """Remove the quarantine of an earlier run."""
        for role in get_args(Role):
            self._quarantine(role).unlink(missing_ok=True)

    def _quarantine(self, role: Role) -> Path:
        return self.folder / f"quarantine_{role}.jsonl"

    def _say(self, note: str) -> None:
        if note:
            if self.first:
                print(note, file=sys.stderr)
            self.notes.append(note)


@dataclass
class SampleStream:
    """Samples by the window, as ``training.stream.Stream`` asks for them. What is left out goes to the quarantine file as it is met."""

    owner: Samples
    data: FileData | HubData
    quarantine: Path
    _reading: tuple[Cursor, Iterator[tuple[Example | BadRow, Cursor]]] | None = None
    """Where the last window ended, and the reading that goes on there: a hub's data would be opened and skipped through again."""
    _met: int = 0
    """Rows of this pass, or since a run went on within it."""
    _bad: int = 0
    _from_start: bool = False

    def __call__(self, cursor: Cursor | None, wanted: int) -> tuple[list[Encoded], Cursor | None]:
        """``wanted`` samples from ``cursor`` on, fewer at the end of a pass, and the cursor behind them (None at the end).

        Raises:
            DataError: if too many rows are malformed.
        """
        if cursor is None:
            self._met, self._bad, self._from_start = 0, 0, True
        going, self._reading = self._reading, None
        rows = self._rows.read(cursor) if going is None or going[0] != cursor else going[1]
        have: list[Encoded] = []
        while len(have) < wanted:
            # Exactly as many rows as samples are missing: the cursor behind the last one is the end of the window.
            chunk = list(islice(rows, wanted - len(have)))
            if not chunk:
                self._require_few_bad(1 if self._from_start else FEW)
                return have, None
            cursor = chunk[-1][1]
            found = [item for item, _ in chunk if isinstance(item, Example)]
            samples, dropped = self.owner.encode(found) if found else ((), ())
            have += samples
            bad = [item for item, _ in chunk if isinstance(item, BadRow)]
            self._met, self._bad = self._met + len(chunk), self._bad + len(bad)
            self._keep([*bad, *(BadRow(sample_id, None, reason, "") for sample_id, reason in dropped)])
            self._require_few_bad(FEW)
        assert cursor is not None
        self._reading = cursor, rows
        return have, cursor

    def report(self) -> str:
        """What was left out, in a sentence; empty where nothing was."""
        count = self.quarantine.read_bytes().count(b"\n") if self.quarantine.is_file() else 0
        return f"{count} rows of the stream were left out; they are in {self.quarantine} with their reasons" if count else ""

    @cached_property
    def _rows(self) -> RowStream:
        data = self.data
        source = Hub(name=data.name, config=data.config, split=data.split) if isinstance(data, HubData) else data.path
        return RowStream(source, data.format, data.limit)

    @cached_property
    def _known(self) -> set[tuple[str, str]]:
        """What is in quarantine already: a window may be read twice, and every pass meets the same rows again."""
        if not self.quarantine.is_file():
            return set()
        whole, end, torn = self.quarantine.read_bytes().rpartition(b"\n")
        if torn:  # by a kill
            os.truncate(self.quarantine, len(whole + end))
        return {(row["where"], row["reason"]) for row in map(json.loads, whole.split(b"\n") if whole else [])}

    def _keep(self, rows: Sequence[BadRow]) -> None:
        new = [row for row in rows if (row.where, row.reason) not in self._known] if self.owner.first else []
        if new:
            self.quarantine.parent.mkdir(parents=True, exist_ok=True)
            with self.quarantine.open("ab") as file:
                file.write(json_lines(new))
            self._known.update((row.where, row.reason) for row in new)

    def _require_few_bad(self, least: int) -> None:
        """Refuse too large a share of malformed rows, as if at least ``least`` had been met."""
        if self._bad > self.owner.section.max_bad_rows * max(self._met, least):
            raise DataError(
                f"{self._bad} of {self._met} rows of the stream cannot be used, more than data.max_bad_rows = "
                f"{self.owner.section.max_bad_rows:g} allows. They are in {self.quarantine} with line numbers and reasons. Repair them, or "
                "raise data.max_bad_rows."
            )


def fingerprint(samples: Sequence[Encoded]) -> str:
    """What tells these samples, in this order, from others: a hash of their token ids."""
    seen = blake2b(digest_size=16)
    for sample in samples:
        parts = (sample.question, sample.cue, sample.student_cue, sample.cot, sample.prompt, sample.answer)
        seen.update(repr([part.ids for part in parts]).encode())
    return seen.hexdigest()


def require_files(section: DataSection) -> None:
    """Refuse a configuration whose data files cannot be read, before anything large is loaded: a glance at each file's first line.

    Raises:
        DataError: naming the path.
    """
    for data in (section.train, section.validation, section.test):
        if isinstance(data, FileData):
            as_text = is_text(data.format, data.path)
            if data.streaming:
                LineFiles.matching(data.path, as_text)
            for path in paths_of(data.path):
                form_of(path, as_text)


def read_data(section: DataSection, data: DataSet, model: LatentReasoner, folder: Path, role: Role = "test") -> tuple[Encoded, ...]:
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
