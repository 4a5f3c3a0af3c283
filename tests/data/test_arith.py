import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from kvdistill.data.arith import Arith
from kvdistill.data.split import Split
from kvdistill.text import Example

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SUM = re.compile(r"<<(\d+)([+*-])(\d+)=(\d+)>>")


def numbers(question: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", question)]


def sums(example: Example) -> list[tuple[int, str, int, int]]:
    parts = [SUM.search(step) for step in example.steps]
    return [(int(p[1]), p[2], int(p[3]), int(p[4])) for p in parts if p is not None]


def problem(example: Example) -> str:
    return f"{sums(example)[0][0]}" + "".join(f"{sign}{n}" for _, sign, n, _ in sums(example))


def accuracy(guesses: Sequence[int], examples: Sequence[Example]) -> float:
    return sum(str(guess) == example.answer for guess, example in zip(guesses, examples, strict=True)) / len(
        examples
    )


def test_steps_are_true_and_lead_to_the_answer() -> None:
    for example in Arith(steps=4, largest=60, trace="mixed").make(300, "train", 0):
        before = numbers(example.question)[0]
        for (start, sign, n, total), asked in zip(sums(example), numbers(example.question)[1:], strict=True):
            assert (start, n) == (before, asked)
            assert total == {"+": start + n, "-": start - n, "*": start * n}[sign]
            assert 1 <= total <= 60
            before = total
        assert str(before) == example.answer


def test_words_say_the_operations() -> None:
    signs = {
        "more.": "+",
        "given": "+",
        "buys": "+",
        "finds": "+",
        "gives": "-",
        "loses": "-",
        "sells": "-",
        "Then": "*",
    }
    for example in Arith().make(100, "train", 1):
        _, *told, _ = re.split(r"(?<=\.) ", example.question)
        assert [next(sign for word, sign in signs.items() if word in sentence) for sentence in told] == [
            s for _, s, _, _ in sums(example)
        ]


def test_terse_and_verbose_are_twins() -> None:
    terse, verbose = Arith().make(20, "train", 2), replace(Arith(), trace="verbose").make(20, "train", 2)
    for one, other in zip(terse, verbose, strict=True):
        assert (one.question, one.answer, one.sample_id) == (other.question, other.answer, other.sample_id)
        assert (one.teacher_cue, other.teacher_cue, one.student_cue, other.student_cue) == (
            "briefly",
            "fully",
            "briefly",
            "briefly",
        )
        (start, sign, n, total), step = sums(one)[0], one.steps[0]
        assert step == f"<<{start}{sign}{n}={total}>>"
        assert f"has {start}{sign}{n} = {step}{total} " in other.steps[0]


def test_splits_are_disjoint_and_samples_distinct() -> None:
    sets = {split: [problem(e) for e in Arith(steps=2, largest=20).make(200, split, 0)] for split in SPLITS}
    assert all(len(set(problems)) == 200 for problems in sets.values())
    assert not set(sets["train"]) & set(sets["test"])
    assert not set(sets["train"]) & set(sets["validation"])
    assert not set(sets["validation"]) & set(sets["test"])


@pytest.mark.parametrize("steps", [2, 3])
def test_no_shortcut_beats_chance(steps: int) -> None:
    arith = Arith(steps=steps, largest=30)
    examples = arith.make(4000, "train", 3)
    asked = [numbers(e.question) for e in examples]
    common = Counter(e.answer for e in arith.make(4000, "train", 4)).most_common(1)[0][0]
    guesses = {f"number {i}": [row[i] for row in asked] for i in range(steps + 1)}
    guesses |= {f"total {i}": [sums(e)[i][3] for e in examples] for i in range(steps - 1)}
    guesses |= {"sum of all": [sum(row) for row in asked], "largest": [max(row) for row in asked]}
    guesses |= {
        "first plus last": [row[0] + row[-1] for row in asked],
        "first minus last": [row[0] - row[-1] for row in asked],
    }
    guesses |= {"most frequent answer": [int(common)] * len(examples), "middle": [15] * len(examples)}
    measured = {name: accuracy(guess, examples) for name, guess in guesses.items()}
    assert {name: share for name, share in measured.items() if share > 1.2 / 30} == {}
    assert accuracy([sums(e)[-1][3] for e in examples], examples) == 1.0


def test_answers_are_spread_evenly() -> None:
    counts = Counter(int(e.answer) for e in Arith(steps=3, largest=20).make(6000, "train", 0))
    assert set(counts) == set(range(1, 21))
    assert max(counts.values()) < 1.2 * 6000 / 20


def test_an_exhausted_split_is_refused_in_words() -> None:
    with pytest.raises(
        ValueError,
        match=r"Arith found \d+ different test problems with 1 steps up to 8, then no new one in 2000 draws",
    ):
        Arith(steps=1, largest=8).make(500, "test", 0)


def test_wrong_settings_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"Arith.steps is 0. Choose 1 or more"):
        Arith(steps=0)
    with pytest.raises(
        ValueError,
        match=r"Arith.largest is 10, too small for 3 steps over different totals. Choose 16 or more",
    ):
        Arith(largest=10)
    with pytest.raises(ValueError, match=r"Arith has no word list.*Name a tokenizer that splits words"):
        Arith().words()
