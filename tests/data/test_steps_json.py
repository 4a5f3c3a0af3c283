import pytest

from kvdistill.data.rows import Row, RowError
from kvdistill.data.steps_json import StepsJson


def row(**fields: object) -> Row:
    return Row(fields, "steps.json, item 1", 1, "steps:1")


def test_rows_by_hand() -> None:
    first = StepsJson().example(row(question="q ", steps=["<<48/2=24>>", " ", " so "], answer="1,080"))
    assert (first.question, first.steps, first.answer, first.sample_id) == (
        "q",
        ("<<48/2=24>>", "so"),
        "1,080",
        "steps:1",
    )
    second = StepsJson().example(row(question="q", steps=[], answer=2))
    assert (second.steps, second.answer) == ((), "2")


@pytest.mark.parametrize("steps", [None, "one step", [1], {"a": 1}])
def test_steps_must_be_a_list_of_texts(steps: object) -> None:
    with pytest.raises(RowError, match=r"^'steps' is not a list of texts. Write \[\"first step\""):
        StepsJson().example(row(question="q", steps=steps, answer="2"))


def test_steps_must_be_readable() -> None:
    with pytest.raises(RowError, match="the text under 'steps' holds"):
        StepsJson().example(row(question="q", steps=["a", "b\x00"], answer="2"))
