import json
from pathlib import Path

import pytest

from kvdistill.data.rows import DataError
from kvdistill.data.steps_json import StepsJson


def written(tmp_path: Path, *rows: dict[str, object]) -> Path:
    path = tmp_path / "steps.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_rows_by_hand(tmp_path: Path) -> None:
    first, second = StepsJson().read(
        written(tmp_path, {"question": "q ", "steps": ["<<48/2=24>>", " "], "answer": "1,080"}, {"question": "q", "steps": [], "answer": 2})
    )
    assert (first.question, first.steps, first.answer, first.sample_id) == ("q", ("<<48/2=24>>",), "1080", "steps:1")
    assert (second.steps, second.answer) == ((), "2")


def test_words_are_kept_as_they_are(tmp_path: Path) -> None:
    (example,) = StepsJson().read(written(tmp_path, {"question": "q", "steps": ["a"], "answer": "Tom is a lempus."}))
    assert example.answer == "Tom is a lempus."


@pytest.mark.parametrize("steps", [None, "one step", [1], {"a": 1}])
def test_steps_must_be_a_list_of_texts(tmp_path: Path, steps: object) -> None:
    with pytest.raises(DataError, match=r"item 1: 'steps' is not a list of texts. Write \[\"first step\""):
        StepsJson().read(written(tmp_path, {"question": "q", "steps": steps, "answer": "2"}))


@pytest.mark.parametrize(("split", "rows", "without_step"), [("train", 6973, 89), ("valid", 500, 6), ("test", 1319, 18)])
def test_every_real_row_is_read(shared_data: Path, split: str, rows: int, without_step: int) -> None:
    examples = StepsJson(answers="number").read(shared_data / f"math/gsm8k_eq/{split}.jsonl")
    assert len(examples) == rows
    assert sum(not example.steps for example in examples) == without_step


@pytest.mark.parametrize(("split", "rows"), [("test", 500), ("valid", 300)])
def test_prosqa_is_read(shared_data: Path, split: str, rows: int) -> None:
    examples = StepsJson().read(shared_data / f"math/prosqa/prosqa_{split}.json")
    assert len(examples) == rows
    assert all(example.steps[-1].split()[-1] == example.answer.split()[-1] for example in examples)
