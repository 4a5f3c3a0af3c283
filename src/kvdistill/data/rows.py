"""Rows of a data set, usable or not, with file and line for messages."""

import json
import re
from dataclasses import dataclass
from typing import Literal

from kvdistill.console.messages import quoted, shortened
from kvdistill.data.numbers import number_text
from kvdistill.records import jsonfile
from kvdistill.text import Example

AnswerKind = Literal["auto", "number", "words"]
"""What answers must be; ``auto`` requires numbers where at least nine rows in ten have one."""

# NUL and lone surrogates, which JSON escapes can hold: the first comes from interrupted writing, the second
# cannot be read by tokenizers.
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


class DataError(ValueError):
    """A data set that cannot be used; the message names the file and the remedy."""


class RowError(ValueError):
    """What is wrong with one row, and the remedy; the reader turns it into a ``BadRow``."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, with the reason."""

    where: str
    """File and line, such as ``data/train.jsonl, line 7``; a sample's id for rows found later."""
    number: int | None
    """Its line, item or row, from 1; None where ``where`` is a sample's id."""
    reason: str
    """What is wrong, and what to do."""
    text: str
    """The row as it is in the data; bytes that are not UTF-8 are written as ``\\xff``."""

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of reading a data set: examples, and rows that cannot be used."""

    examples: list[Example]
    bad: list[BadRow]


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a JSON object with its place in the data set."""

    fields: dict[str, object]
    where: str
    """File and line, for messages."""
    number: int
    sample_id: str
    line: str | None = None
    """The line that the fields were parsed from; None where there was none."""

    def text(self, key: str) -> str:
        """The text under ``key``, without surrounding white space.

        Raises:
            RowError: if it is missing, empty or not text.
        """
        value = self.fields.get(key)
        if not isinstance(value, str) or not value.strip():
            raise RowError(
                f"the row has no text under {key!r} ({self._lacking(key)}). Add it, remove the row, or "
                "choose another format."
            )
        return readable(value, key)

    def _lacking(self, key: str) -> str:
        """Why there is no text under ``key``."""
        if key not in self.fields:
            return f"the row has {shortened(', '.join(self.fields)) or 'nothing'}"
        if isinstance(self.fields[key], str):
            return "it is empty"
        return f"it is {kind_of(self.fields[key])}"

    def answer(self, key: str) -> str:
        """The answer under ``key`` as text; a JSON number is normalized.

        Raises:
            RowError: if it is missing, empty or not finite.
        """
        value = self.fields.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return self.text(key)
        number = number_text(value)
        if number is None:
            raise RowError(f"the answer {value} is not a finite number. Write the number, or remove the row.")
        return number

    def bad(self, reason: str) -> BadRow:
        """This row as one that cannot be used for the given reason."""
        text = self.line
        if text is None:
            text = json.dumps(self.fields, ensure_ascii=False, default=str)
        return BadRow(self.where, self.number, reason, text)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows come from: names them in messages and sample ids."""

    name: str
    """The file, or the data set with its configuration and split."""
    unit: Literal["line", "item", "row"]
    stem: str
    """Prefix of the sample ids."""

    def row(self, number: int, value: object, line: str | None = None) -> Row | BadRow:
        """Make a row of a parsed value.

        Args:
            number: its line, item or row, from 1.
            value: what was parsed; anything but a JSON object gives a ``BadRow``.
            line: the text that it was parsed from.
        """
        if isinstance(value, dict):
            return Row(value, self._where(number), number, f"{self.stem}:{number}", line)
        if isinstance(value, RepeatedKey):
            reason = (
                f"the key {quoted(value.key)} occurs twice in the row. Keep one of them, or remove the row."
            )
        else:
            reason = (
                f"the row is {kind_of(value)}, not an object. Write it as {{'question': ..., 'answer': "
                f"...}}, or remove it."
            )
        if line is None:
            line = json.dumps(value, ensure_ascii=False, default=vars)
        return self.bad(number, reason, line)

    def bad(self, number: int, reason: str, text: str) -> BadRow:
        """A row that could not even be taken apart."""
        return BadRow(self._where(number), number, reason, text)

    def _where(self, number: int) -> str:
        return f"{self.name}, {self.unit} {number}"


@dataclass(frozen=True)
class RepeatedKey:
    """A JSON object with a repeated key, which is refused since neither value can be trusted."""

    key: str
    pairs: list[tuple[str, object]]


def parse_json(text: str) -> object:
    """Parse a JSON text; objects that repeat a key become ``RepeatedKey``.

    Raises:
        RowError: if the text is not JSON; the message names line (where there are several) and column.
    """
    try:
        return jsonfile.parse_json(text, _object)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}"
        if "\n" in text:
            place = f"line {error.lineno}, {place}"
        raise RowError(
            f"the text is not JSON ({error.msg.removesuffix(' at')} at {place}). Repair or remove it."
        ) from error
    except ValueError as error:
        raise RowError(f"the JSON cannot be read ({error}). Repair or remove it.") from error


def readable(value: str, key: str) -> str:
    """``value`` without surrounding white space.

    Raises:
        RowError: if it holds NUL or a lone surrogate.
    """
    found = _NO_TEXT.search(value)
    if found is not None:
        raise RowError(
            f"the text under {key!r} holds {found[0]!a} at character {found.start() + 1}, which is no text. "
            "Repair or remove it."
        )
    return value.strip()


def kind_of(value: object) -> str:
    """The type of a JSON value, for messages."""
    return _KINDS.get(type(value), type(value).__name__)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object] | RepeatedKey:
    """``object_pairs_hook`` of ``json``, which by itself keeps the last of repeated keys."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    keys = [key for key, _ in pairs]
    return RepeatedKey(next(key for key in keys if keys.count(key) > 1), pairs)
