"""Data formats by name, and reading a data file with a given or recognized format."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from kvdistill.console.messages import did_you_mean, quoted, shortened
from kvdistill.data.files import paths_of, read_rows
from kvdistill.data.gsm8k import MARKER, Gsm8k, split_answer
from kvdistill.data.numbers import leading_number
from kvdistill.data.questions import Questions
from kvdistill.data.rows import BadRow, DataError, Loaded, Row, RowError
from kvdistill.data.steps_json import StepsJson
from kvdistill.data.text_lines import TextLines
from kvdistill.text import Example

Source = Gsm8k | StepsJson | Questions | TextLines

NUMBER_SHARE = 0.9
"""Share of rows with a number above which ``auto`` requires one of all answers."""
HEAD = 100
"""Number of first rows by which a format is recognized."""

_SVAMP = Questions(question=("Body", "Question"), answer="Answer")
# Solutions of MATH are prose with figures and displayed equations over several lines: lines are not steps.
_MATH = Questions(question=("problem",), answer="answer", answers="words")

FORMATS: MappingProxyType[str, Source] = MappingProxyType(
    {
        "gsm8k": Gsm8k(),
        "steps_json": StepsJson(),
        "gsm8k_eq": StepsJson(answers="number"),
        "prosqa": StepsJson(answers="words"),
        "text": TextLines(),
        "svamp": _SVAMP,
        "gsm_hard": Questions(),
        "multiarith": Questions(),
        "math500": _MATH,
    }
)
"""Formats by the names that users type."""

_BY_FIELDS: tuple[tuple[frozenset[str], Source], ...] = (
    (frozenset({"question", "steps", "answer"}), StepsJson()),
    (frozenset({"question", "answer"}), Gsm8k()),
    (frozenset({"Body", "Question", "Answer"}), _SVAMP),
    (frozenset({"input", "target"}), Questions()),
    (frozenset({"problem", "answer"}), _MATH),
    (frozenset({"text"}), TextLines()),
)
"""Formats by the fields that recognize them; the first match counts."""


@dataclass(frozen=True, slots=True)
class Parser:
    """Converts rows of a known format and kind of answer to examples."""

    reader: Source
    numbers: bool
    """True requires a number in each answer, which is normalized; False keeps answers as they are."""

    def parse(self, row: Row | BadRow) -> Example | BadRow:
        """Convert a row to an example; a row that cannot be used stays or becomes a ``BadRow``."""
        if isinstance(row, BadRow):
            return row
        try:
            example = self.reader.example(row)
            answer = example.answer
            if MARKER in answer:
                _, answer = split_answer(answer)
            if self.numbers:
                answer = _number(answer)
            return replace(example, answer=answer)
        except RowError as error:
            return row.bad(str(error))


def load(path: Path | str, format: str | Source = "auto") -> Loaded:
    """Read a data file, or all files that a pattern matches.

    Args:
        path: a file, or a pattern such as ``data/part-*.jsonl``.
        format: a name of ``FORMATS``, a format object, or ``auto``: lines of text are recognized by ``||``
            and ``####`` in the first line, JSON by the fields of most of the first ``HEAD`` rows.

    Returns:
        The examples, and the rows that cannot be used with their reasons.

    Raises:
        DataError: if a file is missing or empty, or no row can be used; if the format is unknown (the message
            suggests the nearest name) or not recognized.
    """
    as_text = is_text(format, str(path))
    rows = [row for each in paths_of(path) for row in read_rows(each, as_text)]
    return examples_of(rows, format, str(path))


def is_text(format: str | Source, name: str) -> bool | None:
    """Whether a format has lines of text and not JSON.

    Args:
        format: as in ``load``.
        name: the data set, for messages.

    Returns:
        None for ``auto``, where the file decides.

    Raises:
        DataError: if the format is unknown.
    """
    reader = _named(format, name)
    if reader is None:
        return None
    return isinstance(reader, TextLines)


def examples_of(rows: Sequence[Row | BadRow], format: str | Source, name: str) -> Loaded:
    """Convert all rows of a data set to examples.

    Args:
        rows: all rows, those that cannot be used included.
        format: as in ``load``.
        name: the data set, for messages.

    Returns:
        The examples, and the rows that cannot be used.

    Raises:
        DataError: as ``fit`` does.
    """
    parser = fit(rows, format, name)
    found = [parser.parse(row) for row in rows]
    return Loaded(
        [each for each in found if isinstance(each, Example)],
        [each for each in found if isinstance(each, BadRow)],
    )


def fit(rows: Sequence[Row | BadRow], format: str | Source, name: str) -> Parser:
    """Decide format and kind of answer of a data set.

    Args:
        rows: its first rows, or all.
        format: as in ``load``.
        name: the data set, for messages.

    Returns:
        The parser for all its rows.

    Raises:
        DataError: if the format is unknown or not recognized, or none of the rows can be used.
    """
    reader = _named(format, name) or _recognised(rows, name)
    # Numbers are counted before they are required: a few answers without one are damaged rows.
    words = [each for each in map(Parser(reader, numbers=False).parse, rows) if isinstance(each, Example)]
    with_number = sum(leading_number(example.answer) is not None for example in words)
    numbers = reader.answers == "number" or (
        reader.answers == "auto" and with_number >= NUMBER_SHARE * len(words)
    )
    parser = Parser(reader, numbers)
    if not any(isinstance(parser.parse(row), Example) for row in rows):
        raise _unusable([parser.parse(row) for row in rows], name)
    return parser


def _named(format: str | Source, name: str) -> Source | None:
    """The format of a name; None for ``auto``."""
    if not isinstance(format, str):
        return format
    if format == "auto" or format in FORMATS:
        return FORMATS.get(format)
    hint = did_you_mean(format, FORMATS)
    raise DataError(
        f"{name}: there is no data format {format!r}.{hint} Choose 'auto' or one of {', '.join(FORMATS)}."
    )


def _recognised(rows: Sequence[Row | BadRow], name: str) -> Source:
    """The format that most of the first rows fit; the first row alone may be damaged."""
    decoded = [row for row in rows if isinstance(row, Row)]
    if not decoded:
        raise _unusable(rows, name)
    fitting = (
        next((reader for fields, reader in _BY_FIELDS if fields <= row.fields.keys()), None)
        for row in decoded[:HEAD]
    )
    counts = Counter(reader for reader in fitting if reader is not None)
    if counts:
        return counts.most_common(1)[0][0]
    forms = "; ".join(", ".join(sorted(fields)) for fields, _ in _BY_FIELDS)
    found = shortened(", ".join(decoded[0].fields)) or "(none)"
    raise DataError(
        f"{decoded[0].where}: the fields {found} fit no known form. Rename them to one of: {forms}; "
        "or read the file with kvdistill.data.Questions(question=..., answer=...)."
    )


def _unusable(rows: Sequence[object], name: str) -> DataError:
    advice = "There are none: check the name."
    if rows:
        advice = (
            f"The first: {rows[0]} If all look alike, choose another format (such as --data.train.format "
            "text)."
        )
    return DataError(f"{name}: none of its {len(rows)} rows can be used. {advice}")


def _number(answer: str) -> str:
    number = leading_number(answer)
    if number is None:
        what = "has no number"
        if any(letter.isdigit() for letter in answer):
            what = "is not a single number"
        raise RowError(
            f"the answer {quoted(answer)} {what}. Write the number, remove the row, or choose a format with "
            "text answers."
        )
    return number
