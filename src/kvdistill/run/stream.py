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
        rows = self._rows_from(cursor)
        have: list[Encoded] = []
        while len(have) < wanted:
            # Never more rows than samples are missing, so the cursor after the last row ends the window.
            chunk = list(islice(rows, wanted - len(have)))
            if not chunk:
                cursor = None
                break
            cursor = chunk[-1][1]
            have += self._encoded([item for item, _ in chunk])
            self._require_few_bad(FEW)
        if cursor is not None:
            self._reading = cursor, rows
        elif self._from_start:
            self._require_few_bad(1)
        else:
            self._require_few_bad(FEW)
        if first:
            self.owner.require_chains(have)
        return have, cursor

    def _rows_from(self, cursor: Cursor | None) -> Iterator[tuple[Example | BadRow, Cursor]]:
        """The rows from a position on, in the open iterator where that is its place."""
        reading, self._reading = self._reading, None
        if reading is not None and reading[0] == cursor:
            return reading[1]
        return self._rows.read(cursor)

    def _encoded(self, rows: Sequence[Example | BadRow]) -> Sequence[Encoded]:
        """The samples of some rows; the other rows are counted and go to the quarantine file."""
        bad = [row for row in rows if isinstance(row, BadRow)]
        examples = [row for row in rows if isinstance(row, Example)]
        samples, dropped = (), ()
        if examples:
            samples, dropped = self.owner.encode(examples)
        self._met, self._bad = self._met + len(rows), self._bad + len(bad)
        self._keep([*bad, *(BadRow(sample_id, None, reason, "") for sample_id, reason in dropped)])
        return samples

    def fingerprint(self) -> str | None:
        """A hash of the files' names and sizes; None for a hub data set."""
        if isinstance(self.data, HubData):
            return None
        files = LineFiles.matching(self.data.path, is_text(self.data.format, self.data.path))
        found = [(path.name, size) for path, size in zip(files.paths, files.sizes, strict=True)]
        return blake2b(repr(found).encode(), digest_size=16).hexdigest()

    def report(self) -> str:
        """One sentence on the rows that were left out; empty if there are none."""
        if not self._file.is_file():
            return ""
        count = self._file.read_bytes().count(b"\n")
        if not count:
            return ""
        return f"{count} rows of the stream were left out; they are in {self._file} with their reasons"

    @property
    def _file(self) -> Path:
        return self.owner.quarantine_of("train")

    @cached_property
    def _rows(self) -> RowStream:
        data = self.data
        if isinstance(data, FileData):
            return RowStream(data.path, data.format, data.limit)
        hub = Hub(name=data.name, config=data.config, split=data.split)
        return RowStream(hub, data.format, data.limit)

    @cached_property
    def _known(self) -> set[tuple[str, str]]:
        """Rows already in quarantine: after a resume and in every further pass the same rows come again."""
        if not self._file.is_file():
            return set()
        whole, end, torn = self._file.read_bytes().rpartition(b"\n")
        if torn:  # a last line cut off when the process was killed
            os.truncate(self._file, len(whole + end))
        rows = map(json.loads, filter(None, whole.split(b"\n")))
        return {(row["where"], row["reason"]) for row in rows}

    def _keep(self, rows: Sequence[BadRow]) -> None:
        if not self.owner.first:
            return
        new = [row for row in rows if (row.where, row.reason) not in self._known]
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
