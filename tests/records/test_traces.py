"""``samples.jsonl``: back as it went, and what is refused."""

from dataclasses import asdict
from pathlib import Path

import pytest

from kvdistill.records.traces import (
    QuestionTraces,
    Trace,
    TracesHeader,
    read_samples,
    read_traces,
    trace_row,
    traces_log,
    write_traces,
)

HEADER = TracesHeader(
    teacher="a",
    source="outputs/a",
    revision=None,
    weights="float32:0",
    tokenizer="1",
    data="2",
    questions=2,
    settings={"seed": 3},
)
ONE = QuestionTraces("k1", "train:1", (Trace(("1 + 2 = 3", "3 + 1 = 4"), "4"), Trace((), "4")), 8, 5)
NONE = QuestionTraces("k2", "train:2", (), 8, 0)


def test_they_come_back_by_key(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_traces(path, HEADER, [ONE, NONE])
    for place in (path, tmp_path):
        assert read_traces(place) == {"k1": ONE, "k2": NONE}
        assert read_samples(place) == (HEADER, {"k1": ONE, "k2": NONE})


def test_an_incomplete_file_is_refused_but_can_be_resumed(tmp_path: Path) -> None:
    write_traces(tmp_path / "samples.jsonl", HEADER, [ONE])
    with pytest.raises(ValueError, match="holds 1 of 2 questions: run `kvdistill sample` again"):
        read_traces(tmp_path)
    assert read_samples(tmp_path)[1] == {"k1": ONE}


def test_a_half_written_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_traces(path, HEADER, [ONE, NONE])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"samples\.jsonl, line 3: the line is half-written"):
        read_traces(path)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (trace_row(ONE), "line 3: the question k1 occurs twice"),
        ({"key": "k2"}, "line 3: a line should hold key, sample_id"),
        (trace_row(NONE) | {"sampled": "8"}, "line 3: a line should hold key"),
        (trace_row(NONE) | {"traces": [{"steps": "1"}]}, "line 3: a trace should be an object with steps"),
        (trace_row(NONE) | {"traces": [{"steps": [1]}]}, "line 3: a trace should be"),
        (trace_row(NONE) | {"traces": ["1"]}, "line 3: a trace should be"),
    ],
)
def test_rows_of_another_form_are_refused(tmp_path: Path, row: dict[str, object], words: str) -> None:
    write_traces(tmp_path / "samples.jsonl", HEADER, [ONE])
    traces_log(tmp_path).append([row])
    with pytest.raises(ValueError, match=words):
        read_traces(tmp_path)


def test_another_header_is_refused(tmp_path: Path) -> None:
    log = traces_log(tmp_path)
    log.begin(asdict(HEADER) | {"mood": "good"})
    with pytest.raises(ValueError, match="line 1: the header has other fields .*mood"):
        read_traces(tmp_path)
