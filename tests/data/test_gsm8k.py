from pathlib import Path

import pytest

from kvdistill.data.gsm8k import Gsm8k
from kvdistill.data.rows import Row, RowError
from kvdistill.data.sources import load

ROW = {
    "question": "Natalia sold clips to 48 friends in April, and half as many in May. How many altogether?",
    "answer": "In May she sold 48/2 = <<48/2=24>>24.\nTogether 48+24 = <<48+24=72>>72.\n#### $1,072",
}


def row(**fields: object) -> Row:
    return Row(fields, "gsm.jsonl, line 1", 1, "gsm:1")


def test_a_row_by_hand() -> None:
    example = Gsm8k().example(row(**ROW))
    assert example.question == ROW["question"]
    assert example.steps == ("In May she sold 48/2 = <<48/2=24>>24.", "Together 48+24 = <<48+24=72>>72.")
    assert example.answer == "$1,072"
    assert example.sample_id == "gsm:1"


def test_annotations_can_be_stripped() -> None:
    example = Gsm8k(annotations="strip").example(row(**ROW))
    assert example.steps == ("In May she sold 48/2 = 24.", "Together 48+24 = 72.")


def test_a_row_without_steps_is_legal() -> None:
    assert Gsm8k().example(row(question="1+1?", answer="#### 2")).steps == ()


def test_the_last_mark_counts() -> None:
    example = Gsm8k().example(row(question="1+1?", answer="a #### b\n#### 2"))
    assert (example.steps, example.answer) == (("a #### b",), "2")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"answer": "#### 2"}, "the row has no text under 'question' (the row has answer)"),
        ({"question": "1+1?"}, "the row has no text under 'answer' (the row has question)"),
        ({"question": "1+1?", "answer": 2}, "the row has no text under 'answer' (it is a number)"),
        (
            {"question": "1+1?", "answer": "it is 2"},
            "there is no '####' in the answer. Close the answer with '#### 72'",
        ),
        (
            {"question": "1+1?", "answer": "it is 2\n#### "},
            "there is nothing after '####' in the answer. Close the answer with '#### 72'",
        ),
    ],
)
def test_malformed_rows_are_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(RowError) as error:
        Gsm8k().example(row(**fields))
    assert str(error.value).startswith(says)


def test_no_real_annotation_survives_stripping(shared_data: Path) -> None:
    path = shared_data / "math/gsm8k/test.jsonl"
    kept, stripped = (
        "".join(step for e in load(path, reader).examples for step in e.steps)
        for reader in (Gsm8k(), Gsm8k(annotations="strip"))
    )
    assert kept.count("<<") > 4000
    assert "<<" not in stripped
    assert ">>" not in stripped
