import json
from pathlib import Path

import pytest

from kvdistill.data.quarantine import quarantine
from kvdistill.data.rows import BadRow, DataError

BAD = [
    BadRow("data/x.jsonl, line 7", 7, "it is torn. Repair it.", '{"é'),
    BadRow("data/x.jsonl, line 9", 9, "it is empty.", ""),
]


def test_bad_rows_are_kept_and_told(tmp_path: Path) -> None:
    path = tmp_path / "run" / "quarantine.jsonl"
    assert quarantine(BAD, 200, path, 0.01) == (
        f"2 of 200 rows of data/x.jsonl cannot be used and were left out; they are in {path} with line "
        "numbers and reasons. "
        "The first: data/x.jsonl, line 7: it is torn. Repair it."
    )
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows[0] == {
        "where": "data/x.jsonl, line 7",
        "line": 7,
        "reason": "it is torn. Repair it.",
        "text": '{"é',
    }
    assert [row["line"] for row in rows] == [7, 9]
    assert "of data/x.jsonl and 1 more cannot" in quarantine(
        [*BAD, BadRow("y, z, item 1", 1, "no.", "3")], 300, path, 0.01
    )


def test_too_many_bad_rows_stop_after_they_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    with pytest.raises(DataError) as error:
        quarantine(BAD, 199, path, 0.01)
    assert str(error.value) == (
        "2 of 199 rows of data/x.jsonl cannot be used: 1.01%, more than data.max_bad_rows = 0.01 allows. "
        f"They are in {path} with line numbers and reasons. Repair them, or raise data.max_bad_rows. "
        "The first: data/x.jsonl, line 7: it is torn. Repair it."
    )
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
    assert quarantine(BAD, 2, path, 1.0)


def test_nothing_bad_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    assert quarantine([], 5, path, 0.0) == ""
    quarantine(BAD, 200, path, 0.01)
    assert quarantine([], 5, path, 0.01) == ""
    assert list(tmp_path.iterdir()) == []


def test_half_a_surrogate_pair_is_kept_too(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    quarantine([BadRow("x.json, item 1", 1, "no text.", '"\ud800"')], 200, path, 0.01)
    assert json.loads(path.read_text(encoding="utf-8"))["text"] == '"\ud800"'
