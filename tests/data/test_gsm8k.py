import json
from pathlib import Path

import pytest

from kvdistill.data.gsm8k import Gsm8k
from kvdistill.data.rows import DataError

ROW = {
    "question": "Natalia sold clips to 48 friends in April, and half as many in May. How many altogether?",
    "answer": "In May she sold 48/2 = <<48/2=24>>24.\nTogether 48+24 = <<48+24=72>>72.\n#### $1,072",
}


def written(tmp_path: Path, *rows: dict[str, object]) -> Path:
    path = tmp_path / "gsm.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_row_by_hand(tmp_path: Path) -> None:
    (example,) = Gsm8k().read(written(tmp_path, ROW))
    assert example.question == ROW["question"]
    assert example.steps == ("In May she sold 48/2 = <<48/2=24>>24.", "Together 48+24 = <<48+24=72>>72.")
    assert example.answer == "1072"
    assert example.sample_id == "gsm:1"


def test_annotations_can_be_stripped(tmp_path: Path) -> None:
    (example,) = Gsm8k(annotations="strip").read(written(tmp_path, ROW))
    assert example.steps == ("In May she sold 48/2 = 24.", "Together 48+24 = 72.")


def test_a_row_without_steps_is_legal(tmp_path: Path) -> None:
    (example,) = Gsm8k().read(written(tmp_path, {"question": "1+1?", "answer": "#### 2"}))
    assert example.steps == ()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"answer": "#### 2"}, "the row has no text under 'question'"),
        ({"question": "1+1?"}, "the row has no text under 'answer'"),
        ({"question": "1+1?", "answer": 2}, "the row has no text under 'answer'"),
        ({"question": "1+1?", "answer": "it is 2"}, "nothing stands after '####' in the answer. End the answer with a line '#### 72'"),
        ({"question": "1+1?", "answer": "it is 2\n#### "}, "nothing stands after '####'"),
        ({"question": "1+1?", "answer": "it is 2\n#### two"}, "the answer 'two' has no number. Write the number"),
    ],
)
def test_malformed_rows_are_refused_by_line(tmp_path: Path, row: dict[str, object], says: str) -> None:
    with pytest.raises(DataError) as error:
        Gsm8k(answers="number").read(written(tmp_path, ROW, row))
    assert "gsm.jsonl, line 2: " in str(error.value)
    assert says in str(error.value)


@pytest.mark.parametrize(("split", "rows"), [("train", 7473), ("test", 1319)])
def test_every_real_row_is_read(shared_data: Path, split: str, rows: int) -> None:
    examples = Gsm8k().read(shared_data / f"math/gsm8k/{split}.jsonl")
    assert len(examples) == rows
    assert all(example.steps and example.answer.lstrip("-").isdigit() for example in examples)


def test_no_real_annotation_survives_stripping(shared_data: Path) -> None:
    path = shared_data / "math/gsm8k/test.jsonl"
    kept, stripped = ("".join(step for e in reader.read(path) for step in e.steps) for reader in (Gsm8k(), Gsm8k(annotations="strip")))
    assert kept.count("<<") > 4000
    assert "<<" not in stripped
    assert ">>" not in stripped
