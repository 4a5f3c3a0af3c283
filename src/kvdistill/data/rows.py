"""One row of a data set, usable or not, and where it stands."""

import json
import re
from dataclasses import dataclass
from typing import Literal

from kvdistill.console.messages import quoted, shortened
from kvdistill.data.numbers import number_text
from kvdistill.records import jsonfile
from kvdistill.text import Example

AnswerKind = Literal["auto", "number", "words"]
"""What answers must be; ``auto`` asks for numbers where at least nine rows in ten have one."""

# NUL and halves of surrogate pairs, which JSON's escapes can spell: the first is a scar of broken writing,
# the second no tokenizer reads.
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
    """Data that cannot be used as a whole; the message names the file and the remedy."""


class RowError(ValueError):
    """What is wrong with one row and what to do about it; whoever reads rows makes it a ``BadRow``."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used."""

    where: str
    """File and line, as in ``data/train.jsonl, line 7``."""
    number: int | None
    """Its line, item or row; None where ``where`` is a sample's id."""
    reason: str
    """What is wrong, and what to do."""
    text: str
    """The row as it stands in the data; bytes that are no text are written as ``\\xff``."""

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a data set gives: examples, and the rows that are none."""

    examples: list[Example]
    bad: list[BadRow]


@dataclass(frozen=True, slots=True)
class Row:
    """One object of a data set."""

    fields: dict[str, object]
    where: str
    """File and line, for messages."""
    number: int
    sample_id: str
    line: str | None = None
    """The text that the fields were read from; None where there is none."""

    def text(self, key: str) -> str:
        """The text under ``key``, without space round it.

        Raises:
            RowError: if it is missing, empty or not text.
        """
        value = self.fields.get(key)
        if not isinstance(value, str) or not value.strip():
            found = "it is empty" if isinstance(value, str) else f"it is {kind_of(value)}"
            why = (
                found
                if key in self.fields
                else f"the row has {shortened(', '.join(self.fields)) or 'nothing'}"
            )
            raise RowError(
                f"the row has no text under {key!r} ({why}). Add it, remove the row, or choose another "
                "format."
            )
        return readable(value, key)

    def answer(self, key: str) -> str:
        """The answer under ``key``, a JSON number or text, as text.

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
        """This row as one that cannot be used."""
        text = json.dumps(self.fields, ensure_ascii=False, default=str) if self.line is None else self.line
        return BadRow(self.where, self.number, reason, text)


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose rows they are: names them in messages and in sample ids."""

    name: str
    """The file, or the data set with its configuration and split."""
    unit: Literal["line", "item", "row"]
    stem: str
    """Beginning of the sample ids."""

    def row(self, number: int, value: object, line: str | None = None) -> Row | BadRow:
        """The row that ``value`` is; one that is no JSON object cannot be used."""
        if isinstance(value, dict):
            return Row(value, self._where(number), number, f"{self.stem}:{number}", line)
        if isinstance(value, RepeatedKey):
            reason = (
                f"the key {quoted(value.key)} stands twice in the row. Keep one of them, or remove the row."
            )
        else:
            reason = (
                f"the row is {kind_of(value)}, not an object. Write it as {{'question': ..., 'answer': "
                f"...}}, or remove it."
            )
        return self.bad(
            number, reason, json.dumps(value, ensure_ascii=False, default=vars) if line is None else line
        )

    def bad(self, number: int, reason: str, text: str) -> BadRow:
        """A row that could not even be taken apart."""
        return BadRow(self._where(number), number, reason, text)

    def _where(self, number: int) -> str:
        return f"{self.name}, {self.unit} {number}"


@dataclass(frozen=True)
class RepeatedKey:
    """What a JSON object with the same key twice becomes, since none of its values can be trusted."""

    key: str
    pairs: list[tuple[str, object]]


def parse_json(text: str) -> object:
    """The value that a JSON text holds; objects that repeat a key become ``RepeatedKey``.

    Raises:
        RowError: if the text is not JSON; the message names line (where there are several) and column.
    """
    try:
        return jsonfile.parse_json(text, _object)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        raise RowError(
            f"the text is not JSON ({error.msg.removesuffix(' at')} at {place}). Repair or remove it."
        ) from error
    except ValueError as error:
        raise RowError(f"the JSON cannot be read ({error}). Repair or remove it.") from error


def readable(value: str, key: str) -> str:
    """``value`` without space round it.

    Raises:
        RowError: if it holds a character that is no text.
    """
    found = _NO_TEXT.search(value)
    if found is not None:
        raise RowError(
            f"the text under {key!r} holds {found[0]!a} at character {found.start() + 1}, which is no text. "
            "Repair or remove it."
        )
    return value.strip()


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), type(value).__name__)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object] | RepeatedKey:
    keys = [key for key, _ in pairs]
    found = dict(pairs)
    return (
        found
        if len(found) == len(keys)
        else RepeatedKey(next(key for key in keys if keys.count(key) > 1), pairs)
    )
