import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.data import files, stream
from kvdistill.data.hub import Hub
from kvdistill.data.rows import BadRow, DataError
from kvdistill.data.sources import HEAD, load
from kvdistill.data.stream import RowStream
from kvdistill.text import Example

LINES = [
    '{"question": "1+1?", "answer": "so\\n#### 2"}',
    '{"question": "é\u2028ü?", "answer": "あ\\n#### $1,000"}',
    '{"question": "🎈", "answer": "#### two"}',
    '{"question": "torn',
    "",
    "  ",
    "[1]",
]


def written(path: Path, lines: list[str], end: str = "\n") -> Path:
    path.write_bytes(end.join(lines).encode())
    return path


def rows(num: int) -> list[str]:
    return [json.dumps({"question": f"q{i}?", "answer": f"#### {i}"}) for i in range(num)]


def examples(items: list[tuple[Example | BadRow, dict[str, object]]]) -> list[str]:
    return [item.sample_id for item, _ in items if isinstance(item, Example)]


@given(
    st.lists(st.lists(st.sampled_from(LINES), min_size=1), min_size=1, max_size=3),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 9),
)
def test_a_reading_goes_on_after_any_item(
    session_tmp: Path, parts: list[list[str]], end: str, limit: int
) -> None:
    folder = session_tmp / f"parts-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    for number in range(3):
        written(
            folder / f"part-{number}.jsonl", [LINES[0], *(parts[number] if number < len(parts) else [])], end
        )
    for most in (None, limit):
        source = RowStream(f"{folder}/part-*.jsonl", limit=most)
        whole = list(source.read())
        for done, (_, cursor) in enumerate(whole, start=1):
            assert list(source.read(json.loads(json.dumps(cursor)))) == whole[done:]
        assert most is None or len(examples(whole)) == min(
            most, len(examples(list(RowStream(source=f"{folder}/part-*.jsonl").read())))
        )


def test_a_stream_gives_what_load_gives(tmp_path: Path) -> None:
    path = written(tmp_path / "set.jsonl", [*LINES, *rows(30)])
    found = [item for item, _ in RowStream(path).read()]
    loaded = load(path)
    assert [item for item in found if isinstance(item, Example)] == loaded.examples
    assert [item for item in found if isinstance(item, BadRow)] == loaded.bad
    assert [row.number for row in loaded.bad] == [3, 4, 7]


def test_text_is_streamed(tmp_path: Path) -> None:
    path = written(tmp_path / "set.txt", ["q||<<1+1=2>> #### 2", "q #### 2"])
    (first, _), (second, _) = RowStream(path).read()
    assert isinstance(first, Example) and first.steps == ("<<1+1=2>>",)
    assert isinstance(second, BadRow) and second.where == f"{path}, line 2"


def test_the_limit_counts_examples_of_the_whole_pass(tmp_path: Path) -> None:
    source = RowStream(written(tmp_path / "set.jsonl", [*rows(2), "[1]", *rows(5)]), limit=4)
    whole = list(source.read())
    assert len(examples(whole)) == 4
    assert len(whole) == 5
    assert len(examples(list(source.read(whole[1][1])))) == 2
    assert list(source.read(whole[-1][1])) == []


def test_nothing_is_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(path: Path, form: files.Form, offset: int = 0, number: int = 0):  # noqa: ANN202
        for found in files.read_lines(path, form, offset, number):
            seen.append(found[2])
            yield found

    monkeypatch.setattr(stream, "read_lines", counted)
    source = RowStream(written(tmp_path / "set.jsonl", rows(500)), limit=300)
    assert seen == list(range(1, HEAD + 1))
    seen.clear()
    reading = source.read()
    cursor = [next(reading)[1] for _ in range(7)][-1]
    assert seen == list(range(1, 8))
    next(source.read(cursor))
    assert seen[7:] == [8]
    seen.clear()
    assert len(list(source.read())) == 300
    assert len(seen) == 300


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    line = json.dumps({"question": "q" * 4000, "answer": "#### 1"})
    source = RowStream(written(tmp_path / "set.jsonl", [line] * 500))
    tracemalloc.start()
    try:
        assert sum(isinstance(item, Example) for item, _ in source.read()) == 500
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500_000, "the file has 2 MB"


def test_the_kind_of_answer_is_decided_on_the_first_rows(tmp_path: Path) -> None:
    lines = [*rows(HEAD), '{"question": "q", "answer": "#### Bob"}']
    *_, (last, _) = RowStream(written(tmp_path / "set.jsonl", lines)).read()
    assert isinstance(last, BadRow) and "'Bob' has no number" in last.reason


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[{"question": "q", "answer": "#### 1"}]',
            "the file is one JSON list, which is not streamed. Write one JSON object a line, or "
            "read it without streaming. "
            "If its lines are text, name the format (--data.train.format text).",
        ),
        ("a\nb", "none of its 2 rows can be used"),
        ("", "the file is empty"),
    ],
)
def test_what_cannot_be_streamed_is_refused_at_once(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path / "set.jsonl", [text])
    with pytest.raises(DataError) as error:
        RowStream(path)
    assert str(error.value).startswith(f"{path}: {says}")


def test_a_cursor_of_other_files_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "part-1.jsonl", rows(3))
    source = RowStream(f"{tmp_path}/part-*.jsonl")
    *_, (_, cursor) = source.read()
    size = path.stat().st_size

    def refused(says: str) -> None:
        for reader in (source, RowStream(f"{tmp_path}/part-*.jsonl")):
            with pytest.raises(
                DataError, match=f"^part-1.jsonl, line 3: {says}. Put the same files back, or start again.$"
            ):
                next(reader.read(cursor))

    for num in (2, 4):
        written(path, rows(num))
        refused(
            f".* part-1.jsonl of {path.stat().st_size} bytes is where it had part-1.jsonl of {size} bytes"
        )
    written(path, rows(3))
    assert list(source.read(cursor)) == []
    for name, says in (
        ("part-2", "part-2.jsonl of .* where it had no file"),
        ("part-0", f"part-0.jsonl of .* part-1.jsonl of {size} bytes"),
    ):
        written(tmp_path / f"{name}.jsonl", rows(1))
        source = RowStream(f"{tmp_path}/part-*.jsonl")
        refused(f".* {says}")


def test_a_data_set_of_the_hub_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "mini").mkdir()
    written(tmp_path / "mini" / "train.jsonl", rows(6))
    source = RowStream(Hub(name=str(tmp_path / "mini")), limit=5)
    whole = list(source.read())
    assert examples(whole) == [f"mini-train:{number}" for number in range(1, 6)]
    assert list(source.read(whole[2][1])) == whole[3:]
