import json
from pathlib import Path

import pytest

from kvdistill.data.questions import Questions
from kvdistill.data.rows import DataError


def written(tmp_path: Path, *rows: dict[str, object]) -> Path:
    path = tmp_path / "set.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_one_field_by_hand(tmp_path: Path) -> None:
    (example,) = Questions().read(written(tmp_path, {"input": "13 cats, 3 sold?", "target": -9867630.0}))
    assert (example.question, example.steps, example.answer) == ("13 cats, 3 sold?", (), "-9867630")


@pytest.mark.parametrize(("body", "joined"), [("Dan had 3", "Dan had 3. How many?"), ("Dan had 3.", "Dan had 3. How many?")])
def test_fields_are_joined_as_sentences(tmp_path: Path, body: str, joined: str) -> None:
    path = written(tmp_path, {"Body": body, "Question": "How many?", "Answer": 1.0})
    (example,) = Questions(question=("Body", "Question"), answer="Answer").read(path)
    assert (example.question, example.answer) == (joined, "1")


def test_an_answer_without_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="item 1: the answer 'some' has no number"):
        Questions().read(written(tmp_path, {"input": "q", "target": "some"}))


@pytest.mark.parametrize(
    ("file", "reader", "rows", "fractions"),
    [
        ("svamp/SVAMP.json", Questions(question=("Body", "Question"), answer="Answer"), 1000, 0),
        ("gsm_hard/gsmhardv2.jsonl", Questions(), 1319, 303),
        ("multiarith/mawpsmultiarith_pal.jsonl", Questions(), 600, 0),
    ],
)
def test_every_real_row_is_read(shared_data: Path, file: str, reader: Questions, rows: int, fractions: int) -> None:
    examples = reader.read(shared_data / "math" / file)
    assert len(examples) == rows
    assert sum("." in example.answer for example in examples) == fractions
