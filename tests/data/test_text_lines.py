import pytest

from kvdistill.data.rows import Row, RowError
from kvdistill.data.text_lines import TextLines


def row(text: str) -> Row:
    return Row({"text": text}, "set.txt, line 1", 1, "set:1", text)


@pytest.mark.parametrize(
    ("trace", "steps"),
    [
        ("<<48/2=24>> <<48+24=72>>", ("<<48/2=24>>", "<<48+24=72>>")),
        ("<<48 / 2=24>><<48+24=72>>", ("<<48 / 2=24>>", "<<48+24=72>>")),
        (
            "She sold 48/2 = <<48/2=24>>24. So it is 48+24 = 72! 3.5 more?",
            ("She sold 48/2 = <<48/2=24>>24.", "So it is 48+24 = 72!", "3.5 more?"),
        ),
        (
            "Mr. Lee rose at 8 p.m. to sing. Dr. Ray left.",
            ("Mr. Lee rose at 8 p.m. to sing.", "Dr. Ray left."),
        ),
        ("3 + 4 = 7", ("3 + 4 = 7",)),
        ("", ()),
    ],
)
def test_steps_by_hand(trace: str, steps: tuple[str, ...]) -> None:
    example = TextLines().example(row(f" How many? ||{trace} #### 1,072 "))
    assert (example.question, example.steps, example.answer, example.sample_id) == (
        "How many?",
        steps,
        "1,072",
        "set:1",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "q <<1+1=2>> #### 2",
            r"the line holds '\|\|' 0 times. Write it once, between question and chain of thought",
        ),
        ("q||a #### 2q||a #### 2", r"the line holds '\|\|' 2 times"),
        ("||a #### 2", r"there is no question before '\|\|'. Write it"),
        ("q||a 2", "there is no '####' in the answer. Close the answer with '#### 72'"),
        ("q||a ####", "there is nothing after '####' in the answer. Close the answer"),
    ],
)
def test_malformed_lines_are_refused(text: str, says: str) -> None:
    with pytest.raises(RowError, match=says):
        TextLines().example(row(text))
