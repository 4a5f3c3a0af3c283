"""Examples one by one, for data that memory does not hold."""

from collections.abc import Iterator
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
"""Where a reading stands, in JSON's types."""


@dataclass(frozen=True, slots=True)
class LineFiles:
    """Files of JSON lines or of text, one after the other."""

    paths: tuple[Path, ...]
    forms: tuple[Form, ...]
    sizes: tuple[int, ...]
    """Bytes of each file when the reading was made."""

    @classmethod
    def matching(cls, path: Path | str, as_text: bool | None = None) -> "LineFiles":
        """The file, or all files that a pattern matches.

        Raises:
            DataError: if a file is missing, empty or no text, or is one JSON list.
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
                f"{paths[forms.index('list')]}: the file is one JSON list, which is only read as a whole. "
                "Write one JSON object a line, "
                f"or read it without streaming. {TEXT_HINT}"
            )
        return cls(paths, forms, tuple(each.stat().st_size for each in paths))

    def rows(self, state: Cursor | None = None) -> Iterator[tuple[Row | BadRow, Cursor]]:
        """Every row, read as it is asked for, with the state from which reading goes on after it.

        Raises:
            DataError: if the state is of other files, in name or length, than are there now.
        """
        files = [[path.name, size] for path, size in zip(self.paths, self.sizes, strict=True)]
        first, start, before = (0, 0, 0) if state is None else self._place(state)
        for index in range(first, len(self.paths)):
            path, place = self.paths[index], (start, before) if index == first else (0, 0)
            for row, offset, number in read_lines(path, self.forms[index], *place):
                yield row, {"files": files, "file": index, "offset": offset, "line": number}

    def _place(self, state: Cursor) -> tuple[int, int, int]:
        index, offset, number = state["file"], state["offset"], state["line"]
        found = [(path.name, path.stat().st_size, path) for path in self.paths]
        for before, now in zip_longest(state["files"], found):
            if before is None or now is None or (*before,) != now[:2]:
                was, now_is = (
                    f"{each[0]} of {each[1]} bytes" if each else "no file" for each in (before, now)
                )
                raise DataError(
                    f"{state['files'][index][0]}, line {number}: the reading to be continued stopped there, "
                    f"but {now_is} stands where it "
                    f"had {was}. Put the same files back, or start anew."
                )
        return index, offset, number


class RowStream:
    """Reads examples one by one and can go on exactly where a reading stopped.

    Form and kind of answer (numbers or words) are decided once, when the stream is made, on its first
    ``HEAD`` rows; after that no more is read than was asked for, and only one row is held.
    """

    def __init__(
        self, source: Path | str | Hub, format: str | Source = "auto", limit: int | None = None
    ) -> None:
        """Look at the first rows.

        Args:
            source: a file, a pattern such as ``data/part-*.jsonl`` (read in the order of the names), or a
                data set of the hub.
            format: as in ``load``.
            limit: usable examples of a whole pass, however often it is interrupted; None takes all.

        Raises:
            DataError: if the source or the format is missing or does not fit, or none of the first rows can
                be used.
        """
        self.origin = (
            source if isinstance(source, Hub) else LineFiles.matching(source, is_text(format, str(source)))
        )
        self.limit = limit
        self._parser = fit([row for row, _ in islice(self.origin.rows(), HEAD)], format, str(source))

    def read(self, cursor: Cursor | None = None) -> Iterator[tuple[Example | BadRow, Cursor]]:
        """One pass, or the rest of it after ``cursor``: each item with the cursor after it.

        Raises:
            DataError: if the cursor belongs to other data.
        """
        num, start = (0, None) if cursor is None else (cursor["examples"], cursor["after"])
        if num == self.limit:
            return
        for row, state in self.origin.rows(start):
            item = self._parser.parse(row)
            num += isinstance(item, Example)
            yield item, {"examples": num, "after": state}
            if num == self.limit:
                return
