"""Files to rows: JSON lines, one JSON list, or lines of text."""

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from kvdistill.data.rows import BadRow, DataError, Origin, Row, RowError, parse_json

Form = Literal["json", "list", "text"]
"""JSON objects, one a line; one JSON list of objects; lines of text, each a row ``{"text": line}``."""

MARKS = (b"||", b"####")
"""What a line of text holds in the form ``question||chain of thought #### answer``."""
TEXT_HINT = "If its lines are text, name the format (--data.train.format text)."

_BOM = b"\xef\xbb\xbf"
_HEAD = 1 << 20
_FOREIGN = {
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a Parquet file",
}


def paths_of(path: Path | str) -> list[Path]:
    """The file, or the files that a pattern such as ``data/part-*.jsonl`` matches, in the order of their names.

    Raises:
        DataError: if there is none, or the path is a folder.
    """
    single = Path(path)
    if single.is_dir():
        raise DataError(f"{path}: this is a folder. Name a file in it, or several as {single / '*.jsonl'}.")
    if single.is_file():
        return [single]
    here = f"(relative ones start at {Path.cwd()})"
    if not glob.has_magic(str(path)):
        raise DataError(f"{path}: there is no such file. Check the path {here}.")
    found = sorted(each for each in map(Path, glob.glob(str(path), recursive=True)) if each.is_file())  # noqa: PTH207 - absolute patterns
    if not found:
        raise DataError(f"{path}: no file matches the pattern. Check the path {here}.")
    return found


def form_of(path: Path, as_text: bool | None = None) -> Form:
    """How the rows of a file are written, by its first line that is not blank.

    Args:
        path: an existing file.
        as_text: True where lines are text, False where they are JSON; None where the line decides: text holds both ``||`` and ``####``.

    Raises:
        DataError: if the file is empty, or not text.
    """
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(_HEAD).removeprefix(_BOM), b"")
        head = next((line.strip() for line in lines if line.strip()), b"")
    if not head:
        raise DataError(f"{path}: the file is empty. Write one JSON object a line.")
    foreign = next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)
    if foreign is not None:
        raise DataError(f"{path}: this is {foreign}, not UTF-8 text. Unpack or save it as JSON lines in UTF-8.")
    if as_text or (as_text is None and head[:1] not in b"{[" and all(mark in head for mark in MARKS)):
        return "text"
    return "list" if head.startswith(b"[") else "json"


def read_rows(path: Path, as_text: bool | None = None) -> Iterator[Row | BadRow]:
    """The rows of a file; blank lines are passed over. A row's id is the file's stem and its line (of a list: its place), from 1.

    Raises:
        DataError: as ``form_of``, or if the file begins like a JSON list and is none, or an empty one.
    """
    form = form_of(path, as_text)
    if form == "list":
        yield from _items(path)
        return
    for row, _, _ in read_lines(path, form):
        yield row


def read_lines(path: Path, form: Form, offset: int = 0, number: int = 0) -> Iterator[tuple[Row | BadRow, int, int]]:
    """Every row from byte ``offset`` on, which ``number`` lines precede, with the offset and the number after it."""
    origin = Origin(str(path), "line", path.stem)
    with path.open("rb") as file:
        file.seek(offset)
        # Only "\n" ends a line of a binary file: text mode would also cut at "\r" and count in characters.
        for line in file:
            content = line.removeprefix(_BOM)  # in every line: joined files have it in the middle
            offset, number = offset + len(line), number + 1
            if content.strip():
                yield _row(content, origin, number, form), offset, number


def _row(line: bytes, origin: Origin, number: int, form: Form) -> Row | BadRow:
    shown = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
    try:
        text = _decoded(line).rstrip("\r\n")
        value = {"text": text} if form == "text" else parse_json(text)
    except RowError as error:
        torn = "" if line.endswith(b"\n") else " The file ends here without a line break: if it was cut off, copy it again."
        return origin.bad(number, f"{error}{torn}", shown)
    return origin.row(number, value, text)


def _decoded(line: bytes) -> str:
    if b"\x00" in line:
        raise RowError(f"byte {line.index(0) + 1} is NUL, as after a crash while writing. Write the row again, or remove it.")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError(f"byte {error.start + 1} is not UTF-8. Save the file as UTF-8, or repair the character.") from error


def _items(path: Path) -> Iterator[Row | BadRow]:
    try:
        values = parse_json(_decoded(path.read_bytes().removeprefix(_BOM)))
    except RowError as error:
        raise DataError(f"{path}: the file begins like a JSON list, but {error} {TEXT_HINT}") from error
    if not isinstance(values, list) or not values:
        raise DataError(f"{path}: the list is empty. Write one JSON object an item.")
    origin = Origin(str(path), "item", path.stem)
    yield from (origin.row(number, value) for number, value in enumerate(values, start=1))
