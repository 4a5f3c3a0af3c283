"""Streaming: examples one by one from files or the hub, for data larger than memory, resumable."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from kvdistill.data.files import TEXT_HINT, Form, form_of, paths_of, read_lines
from kvdistill.data.hub import Hub
from kvdistill.data.rows import BadRow, DataError, Row
from kvdistill.data.sources import HEAD, Source, fit, is_text
from kvdistill.text import Example

Cursor = dict[str, Any]
"""Position of a reader, in JSON's types, to be saved in a checkpoint."""


@dataclass(frozen=True, slots=True)
class LineFiles:
    """Files of JSON lines or text, read one after the other."""

    paths: tuple[Path, ...]
    forms: tuple[Form, ...]
    sizes: tuple[int, ...]
    """Bytes of each file when this object was made."""

    @classmethod
    def matching(cls, path: Path | str, as_text: bool | None = None) -> "LineFiles":
        """Find the files that a path or pattern names.

        Args:
            path: as in ``paths_of``.
            as_text: as in ``form_of``.

        Raises:
            DataError: if a file is missing, empty, not text, a pipe or one JSON list.
        """
        paths = tuple(paths_of(path))
        if pipe := next((each for each in paths if each.is_fifo()), None):
            raise DataError(
                f"{pipe}: this is a pipe, and a stream is read more than once. Write it to a file, or leave "
                "streaming out."
            )
        forms: tuple[Form, ...] = tuple(form_of(each, as_text) for each in paths)
        if "list" in forms:
            raise DataError(
                f"{paths[forms.index('list')]}: the file is one JSON list, which is not streamed. "
                "Write one JSON object a line, "
                f"or read it without streaming. {TEXT_HINT}"
            )
        return cls(paths, forms, tuple(each.stat().st_size for each in paths))

    def rows(self, state: Cursor | None = None) -> Iterator[tuple[Row | BadRow, Cursor]]:
        """Stream the rows.

        Args:
            state: where a previous reading stopped; None starts from the first row.

        Returns:
            An iterator over each row with the state that resumes reading behind it.

        Raises:
            DataError: if names or sizes of the files differ from those in the state.
        """
        files = [[path.name, size] for path, size in zip(self.paths, self.sizes, strict=True)]
        first, start, before = 0, 0, 0
        if state is not None:
            first, start, before = self._place(state)
        for index in range(first, len(self.paths)):
            for row, offset, number in read_lines(self.paths[index], self.forms[index], start, before):
                yield row, {"files": files, "file": index, "offset": offset, "line": number}
            start, before = 0, 0  # only the first file is entered in its middle

    def _place(self, state: Cursor) -> tuple[int, int, int]:
        """File index, byte offset and line number of a state; refuses one of other files."""
        index, offset, number = state["file"], state["offset"], state["line"]
        found = [(path.name, path.stat().st_size, path) for path in self.paths]
        for before, now in zip_longest(state["files"], found):
            if before is None or now is None or (*before,) != now[:2]:
                raise DataError(
                    f"{state['files'][index][0]}, line {number}: the reading to be continued stopped there, "
                    f"but {_described(now)} is where it had {_described(before)}. Put the same files back, "
                    "or start again."
                )
        return index, offset, number


def _described(file: Sequence[Any] | None) -> str:
    """A file by its name and size, the first two entries, for a message."""
    if file is None:
        return "no file"
    return f"{file[0]} of {file[1]} bytes"


class RowStream:
    """Reads examples one by one and resumes exactly where a reading stopped.

    Format and kind of answer (numbers or words) are decided once, from the first ``HEAD`` rows; after that
    rows are read on demand, and only one is held in memory.
    """

    def __init__(
        self, source: Path | str | Hub, format: str | Source = "auto", limit: int | None = None
    ) -> None:
        """Open the source and decide format and kind of answer.

        Args:
            source: a file, a pattern such as ``data/part-*.jsonl`` (read in the order of the names), or a
                data set on the hub.
            format: as in ``load``.
            limit: usable examples of one complete pass, interruptions included; None takes all.

        Raises:
            DataError: if the source is missing, the format is unknown or does not fit, or none of the first
                rows can be used.
        """
        self.origin = (
            source if isinstance(source, Hub) else LineFiles.matching(source, is_text(format, str(source)))
        )
        self.limit = limit
        self._parser = fit([row for row, _ in islice(self.origin.rows(), HEAD)], format, str(source))

    def read(self, cursor: Cursor | None = None) -> Iterator[tuple[Example | BadRow, Cursor]]:
        """Read one pass over the source.

        Args:
            cursor: where a previous reading stopped, to read the rest of its pass; None starts a pass.

        Returns:
            An iterator over each example or unusable row with the cursor behind it.

        Raises:
            DataError: if the cursor belongs to other data.
        """
        num, start = 0, None
        if cursor is not None:
            num, start = cursor["examples"], cursor["after"]
        if num == self.limit:
            return
        for row, state in self.origin.rows(start):
            item = self._parser.parse(row)
            num += isinstance(item, Example)
            yield item, {"examples": num, "after": state}
            if num == self.limit:
                return
