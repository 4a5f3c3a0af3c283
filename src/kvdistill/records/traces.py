"""``samples.jsonl``: chains of thought that a teacher wrote itself, kept where their answer is right."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from kvdistill.records.jsonfile import JsonFile
from kvdistill.records.row_log import RowLog

SAMPLES = "samples.jsonl"
"""Name of the file in its folder; ``REPORT`` is beside it."""
REPORT = "samples.json"
MADE_BY = "kvdistill sample"
WHENCE = ("teacher", "source", "revision")
"""Parts of the header that say what the model was called; its weights and tokenizer say which one it was."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One chain of thought that ended in the right answer."""

    steps: tuple[str, ...]
    """One entry per reasoning step; none where the teacher answered at once."""
    answer: str = ""
    """The answer as the teacher wrote it."""


@dataclass(frozen=True, slots=True)
class QuestionTraces:
    """What a teacher wrote for one question."""

    key: str
    """``data.keys.question_key`` of the question."""
    sample_id: str
    traces: tuple[Trace, ...]
    """Right and distinct chains, in the order in which they were drawn."""
    sampled: int
    """Number of chains drawn."""
    right: int
    """Number of them whose answer was right, duplicates included."""


@dataclass(frozen=True, kw_only=True)
class TracesHeader:
    """Identifies a file of chains: work is resumed only where all of it agrees, except for ``WHENCE``."""

    teacher: str
    """Short name."""
    source: str
    """Folder or hub name of the model."""
    revision: str | None
    """Branch, tag or commit on the hub."""
    weights: str
    """Fingerprint of the weights."""
    tokenizer: str
    """Fingerprint of the tokenizer, template and delimiters."""
    data: str
    """Fingerprint of the questions with their answers."""
    questions: int
    """Number of questions of the complete file."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of sampling."""


@dataclass(frozen=True, kw_only=True)
class SamplesReport(JsonFile):
    """``samples.json``: how many of the sampled chains were right. Shares are between 0 and 1."""

    made_by: ClassVar[str] = MADE_BY

    teacher: str
    questions: int
    """Number of distinct questions."""
    sampled: int
    """Number of chains drawn, over all questions."""
    share_with_two_right: float
    """Share of questions with at least two right and distinct chains."""
    share_with_none: float
    """Share of questions without a right chain."""
    right_share: float
    """Right chains over sampled ones, duplicates included."""
    distinct_share: float
    """Distinct right chains over right ones; 0 where none was right."""
    gold_overlap: float
    """Share of the kept chains whose text is that of the data's own chain; 0 where none was kept."""
    seconds: float
    """Time of the last call, model loading excluded."""
    min_right: int
    """Fewest right and distinct chains that a question needs."""
    too_few: list[str]
    """Ids of the questions with fewer."""


def samples_file(path: Path) -> Path:
    """The file of chains, given its path or that of its folder."""
    if path.is_dir():
        return path / SAMPLES
    return path


def traces_log(path: Path) -> RowLog:
    """The log of a file or folder of chains."""
    return RowLog(samples_file(path), MADE_BY)


def read_traces(path: Path) -> dict[str, QuestionTraces]:
    """Read the chains of a teacher.

    Args:
        path: ``samples.jsonl``, or its folder.

    Returns:
        By key, in the order of the file; questions without a right chain have an empty tuple.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line is damaged, half-written or repeated, or questions are missing.
    """
    _, found = read_complete(path)
    return found


def read_complete(path: Path) -> tuple[TracesHeader, dict[str, QuestionTraces]]:
    """As ``read_traces``, with the header."""
    header, found = read_samples(path)
    if len(found) != header.questions:
        raise ValueError(
            f"{samples_file(path)} holds {len(found)} of {header.questions} questions: run `{MADE_BY}` again "
            "with the same options, it continues."
        )
    return header, found


def read_samples(path: Path) -> tuple[TracesHeader, dict[str, QuestionTraces]]:
    """As ``read_complete``, also for a file that is not complete."""
    log = traces_log(path)
    header, rows = log.read()
    found: dict[str, QuestionTraces] = {}
    for place, row in rows:
        traces = _traces(place, row)
        if traces.key in found:
            raise ValueError(f"{place}: the question {traces.key} occurs twice. Remove one of the lines.")
        found[traces.key] = traces
    return _header(log, header), found


def write_traces(path: Path, header: TracesHeader, found: Iterable[QuestionTraces]) -> None:
    """Write a complete file at once.

    Args:
        path: the file.
        header: what identifies it.
        found: one entry per question.
    """
    log = RowLog(path, MADE_BY)
    log.begin(asdict(header))
    log.append(trace_row(each) for each in found)


def trace_row(found: QuestionTraces) -> dict[str, Any]:
    """The line of a question, as a JSON object."""
    traces = [{"steps": list(trace.steps), "answer": trace.answer} for trace in found.traces]
    return {
        "key": found.key,
        "sample_id": found.sample_id,
        "sampled": found.sampled,
        "right": found.right,
        "traces": traces,
    }


def _header(log: RowLog, fields: Mapping[str, Any]) -> TracesHeader:
    try:
        return TracesHeader(**fields)
    except TypeError as error:
        raise ValueError(
            f"{log.path}, line 1: the header has other fields ({error}). Write the file again with "
            f"`{MADE_BY}`."
        ) from error


def _traces(place: str, row: Mapping[str, Any]) -> QuestionTraces:
    """A row, with its types checked."""
    kinds = {"key": str, "sample_id": str, "sampled": int, "right": int, "traces": list}
    if row.keys() != kinds.keys() or any(type(row[name]) is not kind for name, kind in kinds.items()):
        raise ValueError(
            f"{place}: a line should hold key, sample_id, sampled, right and traces. Write the file again "
            f"with `{MADE_BY}`."
        )
    traces = tuple(_trace(place, each) for each in row["traces"])
    return QuestionTraces(row["key"], row["sample_id"], traces, row["sampled"], row["right"])


def _trace(place: str, trace: Any) -> Trace:
    fields: dict[str, Any] = {}
    if isinstance(trace, dict):
        fields = trace
    steps, answer = fields.get("steps"), fields.get("answer", "")
    if isinstance(answer, str) and isinstance(steps, list) and all(isinstance(step, str) for step in steps):
        return Trace(tuple(steps), answer)
    raise ValueError(
        f"{place}: a trace should be an object with steps, a list of texts, and answer. Write the file again "
        f"with `{MADE_BY}`."
    )
