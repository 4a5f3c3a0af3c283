"""Which reader fits which rows, and what they give."""

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
HEAD = 100
"""Rows by which the form is recognised."""

_SVAMP = Questions(question=("Body", "Question"), answer="Answer")
# A solution of MATH is prose with drawings and displayed equations over many lines: its lines are no steps.
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
"""The readers by the names that a user types."""

_BY_FIELDS: tuple[tuple[frozenset[str], Source], ...] = (
    (frozenset({"question", "steps", "answer"}), StepsJson()),
    (frozenset({"question", "answer"}), Gsm8k()),
    (frozenset({"Body", "Question", "Answer"}), _SVAMP),
    (frozenset({"input", "target"}), Questions()),
    (frozenset({"problem", "answer"}), _MATH),
    (frozenset({"text"}), TextLines()),
)


@dataclass(frozen=True, slots=True)
class Parser:
    """Rows to examples, once their form and the kind of their answers are known."""

    reader: Source
    numbers: bool
    """Whether each answer must have a number, which then stands in plain digits; words stay as they are."""

    def parse(self, row: Row | BadRow) -> Example | BadRow:
        """The example that a row holds, or why it holds none."""
        if isinstance(row, BadRow):
            return row
        try:
            example = self.reader.example(row)
            answer = split_answer(example.answer)[1] if MARKER in example.answer else example.answer
            return replace(example, answer=_number(answer) if self.numbers else answer)
        except RowError as error:
            return row.bad(str(error))


def load(path: Path | str, format: str | Source = "auto") -> Loaded:
    """Read a data file, or all files that a pattern matches; rows that cannot be used are kept apart with
    their reasons.

    Args:
        path: a file, or a pattern such as ``data/part-*.jsonl``.
        format: a name of ``FORMATS``, a reader, or ``auto``: lines of text are recognised by ``||`` and
            ``####`` in the first, JSON by the fields of most of the first ``HEAD`` rows.

    Raises:
        DataError: if a file is missing or empty, or not a row can be used; if the format's name is unknown
            (the nearest is offered) or the form is not recognised.
    """
    as_text = is_text(format, str(path))
    rows = [row for each in paths_of(path) for row in read_rows(each, as_text)]
    return examples_of(rows, format, str(path))


def is_text(format: str | Source, name: str) -> bool | None:
    """Whether lines of a file in this format are text and not JSON; None where the file has to show it.

    Raises:
        DataError: if the format is unknown; ``name`` says whose format it is.
    """
    reader = _named(format, name)
    return None if reader is None else isinstance(reader, TextLines)


def examples_of(rows: Sequence[Row | BadRow], format: str | Source, name: str) -> Loaded:
    """What the rows of the data set ``name`` give.

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
    """The parser for the data set ``name``, of which ``rows`` are the first, or all.

    Raises:
        DataError: if the format is unknown, the form is not recognised, or none of the rows can be used.
    """
    reader = _named(format, name) or _recognised(rows, name)
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
    if not isinstance(format, str):
        return format
    if format == "auto" or format in FORMATS:
        return FORMATS.get(format)
    hint = did_you_mean(format, FORMATS)
    raise DataError(
        f"{name}: there is no data format {format!r}.{hint} Choose 'auto' or one of {', '.join(FORMATS)}."
    )


def _recognised(rows: Sequence[Row | BadRow], name: str) -> Source:
    """The reader that most of the first rows fit: the first alone may be the damaged one."""
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
    first = (
        f"The first: {rows[0]} If all look alike, choose another format (such as --data.train.format text)."
        if rows
        else "There are none: check the name."
    )
    return DataError(f"{name}: none of its {len(rows)} rows can be used. {first}")


def _number(answer: str) -> str:
    number = leading_number(answer)
    if number is None:
        what = "is not a single number" if any(letter.isdigit() for letter in answer) else "has no number"
        raise RowError(
            f"the answer {quoted(answer)} {what}. Write the number, remove the row, or choose a format with "
            "answers in words."
        )
    return number
