"""Stream training samples from files or hub data sets that are larger than memory."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from kvdistill.config import FileData, HubData
from kvdistill.data import BadRow, DataError, Hub, RowStream
from kvdistill.data.quarantine import json_lines
from kvdistill.data.sources import is_text
from kvdistill.data.stream import Cursor, LineFiles
from kvdistill.run.samples import Samples
from kvdistill.text import Encoded, Example

FEW = 1000
"""Rows of a stream before the share of malformed rows is judged by itself."""


@dataclass
class SampleStream:
    """Reads windows of samples for ``training.stream.Stream``; rows left out go to the quarantine file."""

    owner: Samples
    data: FileData | HubData
    _reading: tuple[Cursor, Iterator[tuple[Example | BadRow, Cursor]]] | None = None
    """The cursor after the last window with the open iterator there, since a hub data set would have to be
    opened again and skipped up to the cursor.
    """
    _met: int = 0
    """Rows read in this pass, or since the run resumed within it."""
    _bad: int = 0
    """Malformed rows among them."""
    _from_start: bool = False
    """Whether this process read the pass from its first row."""

    def __call__(self, cursor: Cursor | None, wanted: int) -> tuple[list[Encoded], Cursor | None]:
        """Read the next window.

        Args:
            cursor: where the window begins; None is the start of the data.
            wanted: number of samples.

        Returns:
            The samples, fewer only at the end of a pass, and the cursor after them (None at the end).

        Raises:
            DataError: if too many rows are malformed.
        """
        first = cursor is None
        if first:
            self._met, self._bad, self._from_start = 0, 0, True
        going, self._reading = self._reading, None
        rows = self._rows.read(cursor) if going is None or going[0] != cursor else going[1]
        have: list[Encoded] = []
        while len(have) < wanted:
            # Never more rows than samples are missing, so the cursor after the last row ends the window.
            chunk = list(islice(rows, wanted - len(have)))
            if not chunk:
                self._require_few_bad(1 if self._from_start else FEW)
                self.owner.require_chains(have if first else ())
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
        self.owner.require_chains(have if first else ())
        self._reading = cursor, rows
        return have, cursor

    def fingerprint(self) -> str | None:
        """A hash of the files' names and sizes; None for a hub data set."""
        if isinstance(self.data, HubData):
            return None
        files = LineFiles.matching(self.data.path, is_text(self.data.format, self.data.path))
        found = [(path.name, size) for path, size in zip(files.paths, files.sizes, strict=True)]
        return blake2b(repr(found).encode(), digest_size=16).hexdigest()

    def report(self) -> str:
        """One sentence on the rows that were left out; empty if there are none."""
        count = self._file.read_bytes().count(b"\n") if self._file.is_file() else 0
        return (
            f"{count} rows of the stream were left out; they are in {self._file} with their reasons"
            if count
            else ""
        )

    @property
    def _file(self) -> Path:
        return self.owner.quarantine_of("train")

    @cached_property
    def _rows(self) -> RowStream:
        data = self.data
        source = (
            Hub(name=data.name, config=data.config, split=data.split)
            if isinstance(data, HubData)
            else data.path
        )
        return RowStream(source, data.format, data.limit)

    @cached_property
    def _known(self) -> set[tuple[str, str]]:
        """Rows already in quarantine: after a resume and in every further pass the same rows come again."""
        if not self._file.is_file():
            return set()
        whole, end, torn = self._file.read_bytes().rpartition(b"\n")
        if torn:  # a last line cut off when the process was killed
            os.truncate(self._file, len(whole + end))
        return {(row["where"], row["reason"]) for row in map(json.loads, whole.split(b"\n") if whole else [])}

    def _keep(self, rows: Sequence[BadRow]) -> None:
        new = [row for row in rows if (row.where, row.reason) not in self._known] if self.owner.first else []
        if new:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                file.write(json_lines(new))
            self._known.update((row.where, row.reason) for row in new)

    def _require_few_bad(self, least: int) -> None:
        """Refuse too large a share of malformed rows, counted over at least ``least`` rows."""
        if self._bad > self.owner.section.max_bad_rows * max(self._met, least):
            raise DataError(
                f"{self._bad} of {self._met} rows of the stream cannot be used, more than data.max_bad_rows "
                "= "
                f"{self.owner.section.max_bad_rows:g} allows. They are in {self._file} with line numbers "
                "and reasons. Repair them, or "
                "raise data.max_bad_rows."
            )
