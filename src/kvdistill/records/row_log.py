"""JSON-lines files that grow row by row: a header on the first line, one JSON object on each further line.

A process that is killed leaves at most a half-written last line, which is dropped when the work is resumed.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvdistill.records.jsonfile import parse_json, write_atomic

VERSION = 1
"""Version of the format, written into each header."""


@dataclass(frozen=True)
class RowLog:
    """A file of rows, and the command that writes it."""

    path: Path
    made_by: str
    """The command, for messages."""

    def begin(self, header: Mapping[str, Any]) -> None:
        """Write a new file that holds the header alone; an earlier file is replaced.

        Args:
            header: what identifies the rows; the version of the format is added.
        """
        write_atomic(self.path, _line({"version": VERSION, **header}))

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows in one write, and wait until they are on the disk.

        Args:
            rows: JSON objects, in order.
        """
        data = "".join(map(_line, rows)).encode()
        with self.path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
        """Read all rows.

        Returns:
            The header without its version, and each row with its place (file and line) for messages.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if a line is damaged or half-written, or the file is of another version.
        """
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} does not exist: `{self.made_by}` writes it.")
        lines = self.path.read_bytes().split(b"\n")
        found = [(f"{self.path}, line {number}", line) for number, line in enumerate(lines, 1)]
        place, rest = found.pop()
        if rest:
            raise ValueError(
                f"{place}: the line is half-written. Run `{self.made_by}` again with the same options: it "
                "drops this line and continues."
            )
        rows = [(place, self._row(place, line)) for place, line in found]
        if not rows:
            raise ValueError(f"{self.path} is empty: remove it, and run `{self.made_by}` again.")
        _, header = rows[0]
        version = header.pop("version", None)
        if version != VERSION:
            raise ValueError(
                f"{self.path}: version is {version!r}, this kvdistill reads {VERSION}. Write it again with "
                f"`{self.made_by}`."
            )
        return header, rows[1:]

    def resume(self, header: Mapping[str, Any], say: Callable[[str], None]) -> list[str]:
        """Begin the file where there is none; else drop a half-written last line and compare the headers.

        Args:
            header: what identifies the rows.
            say: prints a line.

        Returns:
            Names of the header's parts in which the file differs, as ``part.key`` inside an object; rows
            belong to it only where there is none.

        Raises:
            ValueError: if the header is damaged, or of another version.
        """
        if not self.path.is_file():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.begin(header)
            return []
        if dropped := self.drop_partial_line():
            say(f"{self.path} ended with a half-written line ({dropped} bytes), which was removed.")
        before, _ = self.read()
        found: list[str] = []
        for part, now in header.items():
            found += _differing(part, before.get(part), now)
        return found

    def drop_partial_line(self) -> int:
        """Remove a half-written last line.

        Returns:
            Number of bytes removed; 0 where the file ends with a complete line.
        """
        data = self.path.read_bytes()
        complete = data.rfind(b"\n") + 1
        if complete < len(data):
            with self.path.open("r+b") as file:
                file.truncate(complete)
                file.flush()
                os.fsync(file.fileno())
        return len(data) - complete

    def _row(self, place: str, line: bytes) -> dict[str, Any]:
        try:
            row = parse_json(line.decode())
        except ValueError as error:
            raise ValueError(f"{place}: the line is damaged ({error}). {self._remedy}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{place}: the line is no JSON object. {self._remedy}")
        return row

    @property
    def _remedy(self) -> str:
        return f"Remove the file, and run `{self.made_by}` again."


def _differing(part: str, before: Any, now: Any) -> list[str]:
    """Names of what differs in a part of two headers: the part, or its keys where both are objects."""
    if before == now:
        return []
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [part]
    keys = dict.fromkeys([*before, *now])
    return [f"{part}.{key}" for key in keys if before.get(key) != now.get(key)]


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
