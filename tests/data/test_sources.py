import json
from pathlib import Path

import pytest

from kvdistill.data.rows import DataError
from kvdistill.data.sources import FORMATS, load

ROOT = Path(__file__).resolve().parents[2]


def written(tmp_path: Path, row: dict[str, object]) -> Path:
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "steps"),
    [
        ({"question": "q", "answer": "a\nb\n#### 7"}, 2),
        ({"question": "q", "answer": "7", "steps": ["a"], "root": 1}, 1),
        ({"Body": "q", "Question": "q", "Answer": 7.0, "ID": "x"}, 0),
        ({"input": "q", "target": 7, "code": "..."}, 0),
    ],
)
def test_the_form_is_recognised_by_its_fields(tmp_path: Path, row: dict[str, object], steps: int) -> None:
    (example,) = load(written(tmp_path, row))
    assert (len(example.steps), example.answer) == (steps, "7")


def test_an_unknown_form_is_refused_with_its_fields(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1: the fields problem, solution fit no known form. Rename them to one of: answer, question"):
        load(written(tmp_path, {"problem": "q", "solution": "7"}))


def test_a_misspelt_format_gets_the_nearest_name(tmp_path: Path) -> None:
    path = written(tmp_path, {"question": "q", "answer": "#### 7"})
    with pytest.raises(DataError, match=r"no data format 'gsm8'. Did you mean 'gsm8k'\? Choose 'auto' or one of gsm8k, steps_json"):
        load(path, "gsm8")
    with pytest.raises(DataError, match=r"no data format 'qqq'. Choose 'auto'"):
        load(path, "qqq")


def test_the_sample_file_is_read() -> None:
    examples = load(ROOT / "data/sample_train.jsonl")
    assert len(examples) == 64
    assert examples[0].answer.isdigit()
    assert examples[-1].answer.isalpha()


@pytest.mark.parametrize(
    ("name", "file", "rows"),
    [
        ("gsm8k", "gsm8k/test.jsonl", 1319),
        ("gsm8k_eq", "gsm8k_eq/valid.jsonl", 500),
        ("steps_json", "gsm8k_eq/test.jsonl", 1319),
        ("prosqa", "prosqa/prosqa_valid.json", 300),
        ("svamp", "svamp/SVAMP.json", 1000),
        ("gsm_hard", "gsm_hard/gsmhardv2.jsonl", 1319),
        ("multiarith", "multiarith/mawpsmultiarith_pal.jsonl", 600),
    ],
)
def test_auto_reads_real_files_as_their_own_format_does(shared_data: Path, name: str, file: str, rows: int) -> None:
    path = shared_data / "math" / file
    assert load(path) == load(path, name)
    assert len(load(path)) == rows
    assert name in FORMATS
