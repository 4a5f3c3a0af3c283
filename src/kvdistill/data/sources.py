"""Which reader fits which file."""

from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from kvdistill.data.gsm8k import Gsm8k
from kvdistill.data.questions import Questions
from kvdistill.data.rows import DataError, Row, read_rows
from kvdistill.data.steps_json import StepsJson
from kvdistill.text import Example

Source = Gsm8k | StepsJson | Questions

_SVAMP = Questions(question=("Body", "Question"), answer="Answer")

FORMATS: MappingProxyType[str, Source] = MappingProxyType(
    {
        "gsm8k": Gsm8k(),
        "steps_json": StepsJson(),
        "gsm8k_eq": StepsJson(answers="number"),
        "prosqa": StepsJson(answers="words"),
        "svamp": _SVAMP,
        "gsm_hard": Questions(),
        "multiarith": Questions(),
    }
)
"""The readers by the names that a user types."""

_BY_FIELDS: tuple[tuple[frozenset[str], Source], ...] = (
    (frozenset({"question", "steps", "answer"}), StepsJson()),
    (frozenset({"question", "answer"}), Gsm8k()),
    (frozenset({"Body", "Question", "Answer"}), _SVAMP),
    (frozenset({"input", "target"}), Questions()),
)


def load(path: Path | str, format: str = "auto") -> list[Example]:
    """Read a data file; ``auto`` recognises its form by the fields of its first row.

    Raises:
        DataError: if the format's name is unknown (the nearest is offered), the form is not recognised, or the file is malformed.
    """
    if format == "auto":
        return _recognise(read_rows(path)[0]).read(path)
    if format not in FORMATS:
        near = get_close_matches(format, FORMATS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise DataError(f"{path}: there is no data format {format!r}. {hint}Choose 'auto' or one of {', '.join(FORMATS)}.")
    return FORMATS[format].read(path)


def _recognise(row: Row) -> Source:
    for fields, source in _BY_FIELDS:
        if fields <= row.fields.keys():
            return source
    forms = "; ".join(", ".join(sorted(fields)) for fields, _ in _BY_FIELDS)
    raise DataError(
        f"{row.where}: the fields {', '.join(row.fields) or '(none)'} fit no known form. Rename them to one of: {forms}; "
        "or read the file with kvdistill.data.Questions(question=..., answer=...)."
    )
