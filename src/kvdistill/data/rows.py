"""Rows of a JSON or JSON-lines file, each knowing where it stands."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kvdistill.data.numbers import leading_number, number_text
from kvdistill.text import Example

AnswerKind = Literal["auto", "number", "words"]
"""What answers must be; ``auto`` asks for numbers where at least nine rows in ten have one."""

NUMBER_SHARE = 0.9


class DataError(ValueError):
    """A data file that cannot be used; the message names the file, the line and the remedy."""


@dataclass(frozen=True, slots=True)
class Row:
    """One object of a data file."""

    fields: dict[str, object]
    where: str
    """File and line, for messages."""
    sample_id: str

    def text(self, key: str) -> str:
        """The text under ``key``.

        Raises:
            DataError: if it is missing, empty or not text.
        """
        value = self.fields.get(key)
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{self.where}: the row has no text under {key!r}. Add it, remove the row, or choose another format.")
        return value.strip()

    def answer(self, key: str) -> str:
        """The answer under ``key``, a JSON number or text, as text.

        Raises:
            DataError: if it is missing, empty or not finite.
        """
        value = self.fields.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return self.text(key)
        number = number_text(value)
        if number is None:
            raise DataError(f"{self.where}: the answer {value} is not a finite number. Write the number, or remove the row.")
        return number


def read_rows(path: Path | str) -> list[Row]:
    """The rows of a JSON-lines file or of a JSON list of objects.

    Blank lines are passed over. A row's id is the file's stem and its line (of a list: its place), counted from 1.

    Raises:
        DataError: if the file is missing, empty, not UTF-8 or not JSON, or a row is not an object.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. Check the path (relative ones start at {Path.cwd()}).")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from error
    if not text.strip():
        raise DataError(f"{path}: the file is empty. Write one JSON object a line.")
    if text.lstrip().startswith("["):
        return [_row(path, "item", number, value) for number, value in enumerate(_list(path, text), start=1)]
    # Only "\n" ends a line: str.splitlines would also cut at separators such as U+2028 that JSON allows inside a text.
    lines = ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
    return [_row(path, "line", number, _json(line, f"{path}, line {number}")) for number, line in lines]


def to_examples(rows: Sequence[Row], parse: Callable[[Row], Example], answers: AnswerKind) -> list[Example]:
    """Parse every row, then bring the answers to one form: plain digits for numbers, words as they are.

    Raises:
        DataError: if a row is malformed, or has no number where ``answers`` asks for one.
    """
    examples = [parse(row) for row in rows]
    numbers = [leading_number(example.answer) for example in examples]
    share = sum(number is not None for number in numbers) / len(numbers)
    if answers == "number" or (answers == "auto" and share >= NUMBER_SHARE):
        missing = next((place for place, number in enumerate(numbers) if number is None), None)
        if missing is not None:
            raise DataError(
                f"{rows[missing].where}: the answer {examples[missing].answer!r} has no number. Write the number, remove the row, "
                "or read the file with answers='words'."
            )
    return [_with_answer(example, number) for example, number in zip(examples, numbers, strict=True)]


def _with_answer(example: Example, number: str | None) -> Example:
    return example if number is None else replace(example, answer=number)


def _list(path: Path, text: str) -> list[object]:
    values = _json(text, str(path))
    if not isinstance(values, list) or not values:
        raise DataError(f"{path}: the list is empty. Write one JSON object an item.")
    return values


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: the text is not JSON ({error}). Repair the row or remove it.") from error


def _row(path: Path, unit: str, number: int, value: object) -> Row:
    where = f"{path}, {unit} {number}"
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: the row is a JSON {type(value).__name__}, not an object. Write it as {{'question': ..., 'answer': ...}}."
        )
    return Row(fields=value, where=where, sample_id=f"{path.stem}:{number}")
