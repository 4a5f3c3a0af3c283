"""Content keys depend on question and answer alone."""

from dataclasses import replace

from kvdistill.data.keys import by_key, question_key
from kvdistill.text import Example

SAMPLE = Example(question="a b", steps=("x",), answer="c", sample_id="1")


def test_the_key_is_that_of_question_and_answer() -> None:
    key = question_key(SAMPLE)
    assert len(key) == 32
    assert question_key(replace(SAMPLE, steps=(), sample_id="2")) == key
    assert question_key(replace(SAMPLE, answer="d")) != key
    assert question_key(replace(SAMPLE, question="a d")) != key


def test_text_cannot_move_between_question_and_answer() -> None:
    assert question_key(replace(SAMPLE, question="a ", answer="bc")) != question_key(
        replace(SAMPLE, question="a b", answer="c")
    )
    assert question_key(replace(SAMPLE, question="a", answer="bc")) != question_key(
        replace(SAMPLE, question="ab", answer="c")
    )


def test_of_equal_questions_the_first_is_kept_in_order() -> None:
    other = replace(SAMPLE, answer="d")
    found = by_key([SAMPLE, other, replace(SAMPLE, sample_id="2")])
    assert list(found.values()) == [SAMPLE, other]
    assert list(found) == [question_key(SAMPLE), question_key(other)]
