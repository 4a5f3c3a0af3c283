"""Data files to rows: JSON lines, one JSON list, or lines of text."""

import glob
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from kvdistill.console.messages import explain_os_error
from kvdistill.data.rows import BadRow, DataError, Origin, Row, RowError, parse_json

Form = Literal["json", "list", "text"]
"""``json``: an object per line; ``list``: one JSON list of objects; ``text``: rows ``{"text": line}``."""

MARKS = (b"||", b"####")
"""Separators of a line of text: ``question||chain of thought #### answer``."""
TEXT_HINT = "If its lines are text, name the format (--data.train.format text)."
"""Advice at the end of messages about files that are not JSON."""

_BOM = b"\xef\xbb\xbf"
_HEAD = 1 << 20
"""Bytes of a line that are read to recognize the form."""
_JOINED = re.compile(rb"\}\s*\r\s*\{")
"""Two objects separated by a carriage return, as in files of old Macs."""
_FOREIGN = {
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a Parquet file",
}
"""First bytes of files that are not UTF-8 text."""


def paths_of(path: Path | str) -> list[Path]:
    """The files that a path or pattern names.

    Args:
        path: a file, a pipe, or a pattern such as ``data/part-*.jsonl``.

    Returns:
        The file, or the files that match, sorted by path.

    Raises:
        DataError: if there is none, or the path is a folder or device.
    """
    single = Path(path)
    mode = _mode_of(single)
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: this is a folder. Name a file in it, or several as {single / '*.jsonl'}.")
    if stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or (mode and single.samefile(os.devnull)):
        return [single]
    if mode:
        raise DataError(
            f"{path}: this is a device or socket, not a file. Copy the data to a file, and name that."
        )
    here = f"(relative ones start at {Path.cwd()})"
    if not glob.has_magic(str(path)):
        raise DataError(f"{path}: there is no such file. Check the path {here}.")
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207 - the pattern may be absolute
    found = sorted(each for each in map(Path, matches) if each.is_file())
    if not found:
        raise DataError(f"{path}: no file matches the pattern. Check the path {here}.")
    return found


def form_of(path: Path, as_text: bool | None = None) -> Form:
    """Recognize the form of a file by its first line that is not blank.

    Args:
        path: an existing file, not a pipe (which can be read only once).
        as_text: True where lines are text, False where they are JSON; None recognizes text by ``||`` and
            ``####`` in the line.

    Returns:
        ``json``, ``list`` or ``text``.

    Raises:
        DataError: if the file is empty, or not text.
    """
    with _opened(path) as file:
        return _form_in(file, path, as_text)


def read_rows(path: Path, as_text: bool | None = None) -> Iterator[Row | BadRow]:
    """Read the rows of a file; blank lines are skipped.

    The id of a row is the file's stem and its line (in a JSON list its place), counted from 1.

    Args:
        path: a file or pipe.
        as_text: as in ``form_of``.

    Returns:
        An iterator over the rows, those that cannot be used included.

    Raises:
        DataError: as ``form_of``, or if the file begins like a JSON list but is not one, or an empty one.
    """
    with _opened(path) as file:
        form = _form_in(file, path, as_text)
        file.seek(0)
        if form == "list":
            yield from _items(file, path)
        else:
            yield from (row for row, _, _ in _lines(file, path, form))


def read_lines(
    path: Path, form: Form, offset: int = 0, number: int = 0
) -> Iterator[tuple[Row | BadRow, int, int]]:
    """Read the rows of a file from a position on, to resume a stream.

    Args:
        path: a regular file.
        form: ``json`` or ``text``.
        offset: byte at which a line begins.
        number: lines before it.

    Returns:
        An iterator over each row with the byte offset and the line number behind it.
    """
    with _opened(path) as file:
        file.seek(offset)
        yield from _lines(file, path, form, offset, number)


def _mode_of(path: Path) -> int:
    """The file mode of ``stat``, 0 where there is no such file.

    Raises:
        DataError: if the system refuses the name.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise DataError(explain_os_error(error)) from error
    except ValueError as error:
        raise DataError(f"{str(path)!r}: this is no name of a file ({error}). Check the path.") from error


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file for reading; a pipe, which cannot be rewound, is copied to memory."""
    try:
        with path.open("rb") as file:
            if path.is_fifo():
                yield io.BytesIO(file.read())
            else:
                yield file
    except OSError as error:
        error.filename = error.filename or str(path)  # reading does not name the file, opening does
        raise DataError(explain_os_error(error)) from error


def _form_in(file: io.BufferedIOBase, path: Path, as_text: bool | None) -> Form:
    """As ``form_of``, for an open file; other kinds of files are refused by their first bytes."""
    lines = iter(lambda: file.readline(_HEAD).removeprefix(_BOM), b"")
    head = next((line.strip() for line in lines if line.strip()), b"")
    if not head:
        raise DataError(f"{path}: the file is empty. Write one JSON object a line.")
    foreign = next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)
    if foreign is not None:
        raise DataError(
            f"{path}: this is {foreign}, not UTF-8 text. Unpack or save it as JSON lines in UTF-8."
        )
    if _JOINED.search(head) or (b"\r" in head and head.count(MARKS[0]) > 1):
        raise DataError(
            f"{path}: its lines end with carriage returns alone. Convert it: tr '\\r' '\\n' < FILE > "
            "NEW_FILE."
        )
    if as_text or (as_text is None and head[:1] not in b"{[" and all(mark in head for mark in MARKS)):
        return "text"
    if head.startswith(b"["):
        return "list"
    return "json"


def _lines(
    file: io.BufferedIOBase, path: Path, form: Form, offset: int = 0, number: int = 0
) -> Iterator[tuple[Row | BadRow, int, int]]:
    origin = Origin(str(path), "line", path.stem)
    # Binary mode: text mode would also split at "\r", and its offsets do not count bytes.
    for line in file:
        content = line.removeprefix(_BOM)  # on every line: concatenated files have it in the middle
        offset, number = offset + len(line), number + 1
        if content.strip():
            yield _row(content, origin, number, form), offset, number


def _row(line: bytes, origin: Origin, number: int, form: Form) -> Row | BadRow:
    shown = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
    try:
        text = _decoded(line).rstrip("\r\n")
        value: object = {"text": text}
        if form != "text":
            value = parse_json(text)
    except RowError as error:
        reason = str(error)
        if not line.endswith(b"\n"):
            reason += " The file ends here without a line break: if it was cut off, copy it again."
        return origin.bad(number, reason, shown)
    return origin.row(number, value, text)


def _decoded(line: bytes) -> str:
    """Bytes as UTF-8 text, with the position of the first wrong byte in the error."""
    if b"\x00" in line:
        raise RowError(
            f"byte {line.index(0) + 1} is NUL, as after a crash while writing. Write the row again, or "
            "remove it."
        )
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError(
            f"byte {error.start + 1} is not UTF-8. Save the file as UTF-8, or repair the character."
        ) from error


def _items(file: io.BufferedIOBase, path: Path) -> Iterator[Row | BadRow]:
    """The rows of one JSON list, which is parsed in memory."""
    try:
        values = parse_json(_decoded(file.read().removeprefix(_BOM)))
    except RowError as error:
        raise DataError(f"{path}: the file begins like a JSON list, but {error} {TEXT_HINT}") from error
    if not isinstance(values, list) or not values:
        raise DataError(f"{path}: the list is empty. Write one JSON object an item.")
    origin = Origin(str(path), "item", path.stem)
    yield from (origin.row(number, value) for number, value in enumerate(values, start=1))
