"""Files that grow row by row: half-written, damaged and foreign lines."""

from pathlib import Path

import pytest

from kvdistill.records.row_log import RowLog


@pytest.fixture
def log(tmp_path: Path) -> RowLog:
    found = RowLog(tmp_path / "new" / "rows.jsonl", "kvdistill make")
    found.begin({"who": "ä"})
    found.append([{"n": 1}, {"n": 2}])
    return found


def test_rows_come_back_with_their_places(log: RowLog) -> None:
    log.append([{"n": 3}])
    header, rows = log.read()
    assert header == {"who": "ä"}
    assert rows == [(f"{log.path}, line {n + 1}", {"n": n}) for n in (1, 2, 3)]


def test_a_half_written_line_is_an_error_and_is_dropped_on_request(log: RowLog) -> None:
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 3: the line is half-written. Run `kvdistill m"):
        log.read()
    assert log.drop_partial_line() == len('{"n": 2}\n') - 4
    assert [row for _, row in log.read()[1]] == [{"n": 1}]
    assert log.drop_partial_line() == 0
    log.append([{"n": 2}])
    assert log.path.read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{}\nnone\n", r"line 2: the line is damaged .*Remove the file, and run `kvdistill make` again"),
        (b"{}\n\xff\n", r"line 2: the line is damaged"),
        (b"{}\n[]\n", r"line 2: the line is no JSON object"),
        (b'{"version": 7}\n', r"version is 7, this kvdistill reads 1"),
        (b"", "is empty: remove it"),
    ],
)
def test_damaged_files_are_refused(log: RowLog, line: bytes, words: str) -> None:
    log.path.write_bytes(line)
    with pytest.raises(ValueError, match=words):
        log.read()


def test_a_resumed_file_names_what_differs(log: RowLog) -> None:
    log.begin({"who": "a", "settings": {"top_p": 0.9, "seed": 0}})
    same = {"who": "a", "settings": {"top_p": 0.9, "seed": 0}}
    assert log.resume(same, pytest.fail) == []
    other = {"who": "b", "settings": {"top_p": 0.9, "seed": 1, "num": 2}}
    assert log.resume(other, pytest.fail) == ["who", "settings.seed", "settings.num"]


def test_a_missing_file_names_its_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`kvdistill make` writes it"):
        RowLog(tmp_path / "none", "kvdistill make").read()


def test_a_number_that_is_not_finite_is_not_written(log: RowLog) -> None:
    before = log.path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.append([{"n": float("nan")}])
    assert log.path.read_bytes() == before
