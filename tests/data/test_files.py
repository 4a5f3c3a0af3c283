import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.data.files import form_of, paths_of, read_lines, read_rows
from kvdistill.data.rows import BadRow, DataError, Row


def written(tmp_path: Path, text: str | bytes, name: str = "some.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def fields(path: Path) -> list[object]:
    return [row.fields if isinstance(row, Row) else row.reason for row in read_rows(path)]


def test_lines_and_lists_give_the_same_rows(tmp_path: Path) -> None:
    lines = list(read_rows(written(tmp_path, '\ufeff{"a": "x"}\r\n \r\n{"a": "y\u2028z"}')))
    assert [(row.fields["a"], row.sample_id, row.number) for row in lines if isinstance(row, Row)] == [
        ("x", "some:1", 1),
        ("y\u2028z", "some:3", 3),
    ]
    items = list(read_rows(written(tmp_path, '\ufeff [{"a": "x"},\n {"a": "y"}, 3]')))
    assert [row.where for row in items] == [f"{tmp_path}/some.jsonl, item {number}" for number in (1, 2, 3)]
    assert [isinstance(row, Row) for row in items] == [True, True, False]


def test_lines_of_text_are_rows_with_one_field(tmp_path: Path) -> None:
    path = written(tmp_path, "\nq||a #### 1\r\n[q||b #### 2")
    assert form_of(path) == "text"
    assert fields(path) == [{"text": "q||a #### 1"}, {"text": "[q||b #### 2"}]
    assert [form_of(path, as_text) for as_text in (True, False)] == ["text", "json"]
    assert form_of(written(tmp_path, '{"q": "a||b #### 2"}')) == "json"
    assert form_of(written(tmp_path, "a,b\n1,2")) == "json"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty. Write one JSON object a line"),
        (b"\xef\xbb\xbf \n\n", "the file is empty"),
        (b"[]", "the list is empty. Write one JSON object an item"),
        (
            b'[{"a": 1},\n{"a": }]',
            "begins like a JSON list, but the text is not JSON (Expecting value at line 2, column 7)",
        ),
        (b'[{"a": "\xff"}]', "begins like a JSON list, but byte 9 is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "this is UTF-16 text, not UTF-8 text. Unpack or save it as JSON lines"),
        (b"\x1f\x8b\x08\x00", "this is a gzip archive"),
        (b"PAR1\x15\x04", "this is a Parquet file"),
    ],
)
def test_files_that_are_useless_as_a_whole_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError) as error:
        list(read_rows(path))
    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)


def test_a_bad_line_leaves_the_others(tmp_path: Path) -> None:
    path = written(tmp_path, b'{"a": 1}\n{"a": "\xff"}\n{"a": "x\x00"}\n{"a": 2}\n{"a": "tor')
    first, byte, nul, second, torn = read_rows(path)
    assert isinstance(first, Row) and isinstance(second, Row)
    assert isinstance(byte, BadRow) and isinstance(nul, BadRow) and isinstance(torn, BadRow)
    assert byte.reason == "byte 8 is not UTF-8. Save the file as UTF-8, or repair the character."
    assert byte.text == '{"a": "\\xff"}'
    assert nul.reason.startswith("byte 9 is NUL, as after a crash while writing. Write the row again")
    assert torn.reason.startswith(
        "the text is not JSON (Unterminated string starting at column 7). Repair or remove it. The file "
        "ends here"
    )
    assert torn.where == f"{path}, line 5"


def test_patterns_name_files_in_order(tmp_path: Path) -> None:
    for name in ("part-2.jsonl", "part-10.jsonl", "part-1.jsonl", "other.jsonl"):
        written(tmp_path, "{}", name)
    (tmp_path / "part-9.jsonl").mkdir()
    assert [path.name for path in paths_of(f"{tmp_path}/part-*.jsonl")] == [
        "part-1.jsonl",
        "part-10.jsonl",
        "part-2.jsonl",
    ]
    literal = written(tmp_path, "{}", "odd[1].jsonl")
    assert paths_of(literal) == [literal], "a file's own name comes first"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing.jsonl", "there is no such file. Check the path (relative ones start at "),
        ("nothing-*.jsonl", "no file matches the pattern. Check the path"),
        ("", "this is a folder. Name a file in it, or several as "),
    ],
)
def test_missing_files_are_named(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(DataError) as error:
        paths_of(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: {says}")


@given(
    st.lists(
        st.sampled_from(["", " ", '{"a": "é\u2028"}', "3", "\ufeff", '\ufeff{"a": 1}', "{"]), min_size=1
    ),
    st.sampled_from(["\n", "\r\n"]),
)
def test_reading_goes_on_after_any_row(session_tmp: Path, lines: list[str], end: str) -> None:
    path = written(session_tmp, end.join(lines), f"resumed-{os.getpid()}.jsonl")
    whole = list(read_lines(path, "json"))
    for done, (_, offset, number) in enumerate(whole, start=1):
        assert list(read_lines(path, "json", offset, number)) == whole[done:]


def test_a_pipe_is_read_in_one_pass(tmp_path: Path) -> None:
    for content in (b'\n{"a": 1}\n{"a": 2}\n', b'[{"a": 1}, {"a": 2}]'):
        path = tmp_path / "pipe"
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_bytes, args=(content,))
        writer.start()
        assert paths_of(path) == [path]
        assert fields(path) == [{"a": 1}, {"a": 2}]
        writer.join()


def test_what_is_no_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/dev/null: the file is empty"):
        list(read_rows(paths_of("/dev/null")[0]))
    with pytest.raises(DataError, match="/dev/zero: this is a device or socket, not a file"):
        paths_of("/dev/zero")
    with pytest.raises(DataError, match="/dev/null/x: there is no such file"):
        paths_of("/dev/null/x")
    with pytest.raises(DataError, match="the name is too long for this file system. Check the path"):
        paths_of(tmp_path / ("n" * 300))
    with pytest.raises(DataError, match=r"'a\\x00b': this is no name of a file"):
        paths_of("a\0b")
    with pytest.raises(DataError, match="/proc/self/mem: it cannot be read or written"):
        list(read_rows(paths_of("/proc/self/mem")[0]))


@pytest.mark.parametrize("content", [b'{"a": 1}\r{"a": 2}\r', b"q||a #### 1\rq||b #### 2\r"])
def test_lines_that_end_with_carriage_returns_alone_are_named(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError, match="its lines end with carriage returns alone. Convert it: tr"):
        list(read_rows(path))
    path.write_bytes(content.replace(b"\r", b"\r\n"))
    assert len(fields(path)) == 2
