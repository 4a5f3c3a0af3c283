import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvdistill.data.chain import Chain
from kvdistill.evaluation.answers import canonical, extract, same


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("She sold 48/2 = 24.\n#### 72", "72"),
        ("#### $1,000.00 a day", "$1,000.00 a day"),
        ("#### 3\\sqrt{13}", "3\\sqrt{13}"),
        ("####-3", "-3"),
        ("24 apples\nThe answer is: 72.", "72."),
        ("The answer is: Bob .", "Bob ."),
        ("The answer is: 72\n\nQuestion: 5\nThe answer is: 9", "72"),
        ("The answer is: 9\n#### 72", "72"),
        ("#### 72\nmore text 5 #### 6", "72"),
        ("The answer is:\n 72", "72"),
        ("72", None),
        ("", None),
        ("####", None),
        ("The answer is: .", "."),
    ],
)
def test_extract_by_hand(text: str, answer: str | None) -> None:
    assert extract(text) == answer


def test_the_prompt_is_a_setting() -> None:
    assert extract("so: Ann", prompt="so:") == "Ann"
    assert extract("The answer is: Ann", prompt="so:") is None


@pytest.mark.parametrize(
    ("said", "wanted", "equal"),
    [
        ("1,000", "1000.0", True),
        ("$5", "5", True),
        ("-3", "3", False),
        ("-3", "- 3.00", True),
        ("72", "73", False),
        ("Bob", " bob.", True),
        ("Tom is a lempus.", "tom  is a Lempus", True),
        ("Bob", "Ann", False),
        ("5", "five", False),
        ("", "", False),
        (".", ".", False),
        ("3244047.0999999996", "3244047.1", True),
        ("0.0016791648", "0.0016791649", False),
        ("10000000000000001", "10000000000000002", False),
        ("1/2", "1", False),
        ("1/2", "1/2", True),
        ("7.5", "seven.5", False),
    ],
)
def test_same_by_hand(said: str, wanted: str, equal: bool) -> None:
    assert same(said, wanted) is equal
    assert same(wanted, said) is equal


def test_what_only_begins_with_a_number_is_words() -> None:
    assert same("72 clips", "72"), "a unit after the number that is wanted does no harm"
    assert not same("72", "72 clips")
    assert same("3\\sqrt{13}.", "3\\sqrt{13}")
    assert not same("3", "3\\sqrt{13}")
    assert not same("6 + 5i", "6 - 5i")


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_whole_numbers_are_the_same_where_they_are_equal(first: int, second: int) -> None:
    assert same(f"{first:,}", f"{second}.0") == (first == second)
    assert same(f" {first:,} apples\nand so on", str(first))


@given(st.floats(allow_nan=False, allow_infinity=False, width=32).filter(lambda x: abs(x) < 1e9))
def test_a_number_survives_extraction(value: float) -> None:
    spelled = f"{value:.6f}"
    assert same(extract(f"so it is\n#### {spelled}") or "", spelled)


@given(st.text(max_size=30))
@example("?00")
def test_the_canonical_form_is_stable(text: str) -> None:
    form = canonical(text)
    assert form is None or canonical(form) == form


def test_every_answer_of_the_parcel_task_is_itself() -> None:
    for problem in Chain().make(20, "test", 0):
        assert same(f" {problem.answer} .", problem.answer)
