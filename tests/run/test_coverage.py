"""Characters that a teacher does not read: counted by hand, told, and refused."""

import pytest

import pico_trained
from kvdistill.data import encode_all, word_tokenizer
from kvdistill.data.readers import Reader
from kvdistill.run.coverage import require_coverage, unread
from kvdistill.teacher import CausalLMTeacher, SelfDistillation
from kvdistill.text import Encoded, Example


def reader(*names: str) -> Reader:
    """A teacher that knows only these names."""
    return Reader(word_tokenizer([*names, "please", "answer"]), pico_trained.TEMPLATE)


def samples(*steps: tuple[str, ...]) -> tuple[Encoded, ...]:
    tokenizer = pico_trained.student().tokenizer
    assert tokenizer is not None
    rows = [Example("Ann Bob", each, "Ann", str(number)) for number, each in enumerate(steps)]
    return encode_all(rows, tokenizer, pico_trained.TEMPLATE).samples


def test_the_share_by_hand() -> None:
    """Six names of three letters, of which the teacher does not know the two Bobs and one Cid."""
    found = unread(reader("Ann", "Dan"), samples(("Ann", "Bob"), ("Bob", "Cid"), ("Dan", "Ann")))
    assert found.share == pytest.approx(9 / 18)
    assert set(found.letters) <= set("BobCid")
    assert unread(reader(*pico_trained.NAMES), samples(("Ann", "Bob"))).share == 0.0
    assert unread(reader("Ann"), samples(())).share == 0.0


@pytest.mark.parametrize(("unknown", "verdict"), [(1, ""), (2, "told"), (60, "refused")])
def test_little_is_told_and_much_is_refused(unknown: int, verdict: str) -> None:
    """Of 100 names as many are unknown: 1 % is not told yet, 2 % is."""
    lines: list[str] = []
    steps = [("Bob",)] * unknown + [("Ann",)] * (100 - unknown)
    some = samples(*steps)
    student = pico_trained.student()
    big = CausalLMTeacher(student.backbone, "hub/Big", name="big", reader=reader("Ann"))
    teachers = [SelfDistillation(student.geometry), big]
    if verdict == "refused":
        with pytest.raises(
            ValueError,
            match=r"^teachers\.big: its tokenizer does not know 60 % of the characters in the chains of "
            r"thought of 100 training samples \(such as '.', '.', '.'\), and at most 20 % may be missing\.",
        ):
            require_coverage(teachers, some, lines.append)
    else:
        require_coverage(teachers, some, lines.append)
    told = [line.startswith("teachers.big: its tokenizer does not know 2 % of the") for line in lines]
    assert told == [True] * (verdict == "told")
