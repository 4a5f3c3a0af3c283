import pytest

from kvdistill.data.questions import Questions
from kvdistill.data.rows import Row, RowError


def row(**fields: object) -> Row:
    return Row(fields, "set.json, item 1", 1, "set:1")


def test_one_field_by_hand() -> None:
    example = Questions().example(row(input="13 cats, 3 sold?", target=-9867630.0))
    assert (example.question, example.steps, example.answer, example.sample_id) == (
        "13 cats, 3 sold?",
        (),
        "-9867630",
        "set:1",
    )


@pytest.mark.parametrize(
    ("body", "joined"), [("Dan had 3", "Dan had 3. How many?"), ("Dan had 3.", "Dan had 3. How many?")]
)
def test_fields_are_joined_as_sentences(body: str, joined: str) -> None:
    reader = Questions(question=("Body", "Question"), answer="Answer")
    example = reader.example(row(Body=body, Question="How many?", Answer=1.0))
    assert (example.question, example.answer) == (joined, "1")


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(RowError, match="no text under 'target' \\(the row has input\\)"):
        Questions().example(row(input="q"))
