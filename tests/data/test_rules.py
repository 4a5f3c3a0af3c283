"""The task of memorized rules: right answers, equal depths, and no way around the rules."""

from collections import Counter
from dataclasses import replace

import pytest

from kvdistill.data.chain import NAMES
from kvdistill.data.rules import Rules
from kvdistill.data.split import Split
from kvdistill.text import Example

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def asked(example: Example) -> tuple[str, list[int]]:
    """Start and rules of a question."""
    _, start, *rules, _ = example.question.split()
    return start, [int(rule.removeprefix("r")) for rule in rules]


def test_rules_are_permutations_without_fixed_points_and_the_same_everywhere() -> None:
    task = Rules(names=6, rules=12)
    for rule in task.permutations:
        assert sorted(rule) == sorted(rule.values()) == sorted(NAMES[:6])
        assert all(name != target for name, target in rule.items())
    assert len({tuple(rule.items()) for rule in task.permutations}) > 10
    assert Rules(names=6, rules=3, steps=2).permutations == task.permutations[:3]


def test_a_problem_by_hand() -> None:
    (example,) = Rules(names=4, rules=2, steps=2, trace="verbose").make(1, "train", 0)
    start, (first, second) = asked(example)
    rules = Rules(names=4, rules=2).permutations
    middle = rules[first - 1][start]
    end = rules[second - 1][middle]
    assert example.steps == (f"r{first} takes {start} to {middle}", f"r{second} takes {middle} to {end}")
    assert (example.answer, example.depth) == (end, 2)
    assert (example.teacher_cue, example.student_cue) == ("fully", "briefly")


def test_depths_are_equally_many_in_each_style_and_styles_are_twins() -> None:
    task = Rules(trace="mixed")
    examples = task.make(160, "train", 4)
    counts = Counter((example.depth, example.teacher_cue) for example in examples)
    assert counts == {(depth, style): 20 for depth in range(1, 5) for style in ("briefly", "fully")}
    terse = replace(task, trace="terse").make(160, "train", 4)
    assert [(e.question, e.answer) for e in examples] == [(e.question, e.answer) for e in terse]
    assert all(len(e.steps) == e.depth == len(asked(e)[1]) for e in terse)


def test_padded_traces_hold_the_answer() -> None:
    for example in Rules(pad=True, filler="repeated", trace="verbose").make(40, "train", 1):
        assert example.depth is not None
        results = [step.split()[-1] for step in example.steps]
        assert len(results) == 4
        assert set(results[example.depth - 1 :]) == {example.answer}
        assert all(step.startswith("then then then ") for step in example.steps)


def test_all_rules_of_a_question_are_of_one_group() -> None:
    """With 4 rules in 2 groups: 1 and 3 with weight 4/3, 2 and 4 with weight 3/4."""
    task = Rules(rules=4, groups=2, steps=(1, 3))
    groups = [{(rule - 1) % 2 for rule in asked(e)[1]} for e in task.make(4000, "train", 0)]
    assert all(len(found) == 1 for found in groups)
    assert groups.count({0}) / 4000 == pytest.approx(16 / 25, abs=0.02)
    odd = replace(task, only=(1, 3)).make(200, "train", 0)
    assert {rule for e in odd for rule in asked(e)[1]} == {1, 3}
    with pytest.raises(ValueError, match=r"groups is 5. Choose a number from 1 to rules \(4\)"):
        replace(task, groups=5)


def test_splits_are_disjoint() -> None:
    problems = {
        split: {e.question for e in Rules(names=5, rules=3, steps=(1, 2)).make(400, split, 0)}
        for split in SPLITS
    }
    assert all(problems.values())
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert not problems[one] & problems[other]


def test_rules_are_asked_for_by_zipf() -> None:
    """With 4 rules: 1, 1/2, 1/3, 1/4 of the sum 25/12."""
    counts = Counter(rule for e in Rules(rules=4).make(4000, "train", 0) for rule in asked(e)[1])
    total = sum(counts.values())
    for rule in range(1, 5):
        assert counts[rule] / total == pytest.approx(12 / 25 / rule, abs=0.02)
    even = Counter(rule for e in Rules(rules=4, zipf=0.0).make(4000, "train", 0) for rule in asked(e)[1])
    assert max(even.values()) < 1.1 * min(even.values())


def test_only_some_rules_for_teachers_of_complementary_skill() -> None:
    task = Rules(rules=6, only=(2, 5))
    examples = task.make(200, "train", 0)
    assert {rule for e in examples for rule in asked(e)[1]} == {2, 5}
    assert task.words() == Rules(rules=6).words()
    assert task.permutations == Rules(rules=6).permutations


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_shortcut_beats_chance(split: Split) -> None:
    """Neither the start, nor a rule alone, nor the most frequent answer: 16 names, depth 2 to 4."""
    task = Rules(steps=(2, 4))
    examples = task.make(6000, split, 2)
    common = Counter(e.answer for e in task.make(6000, "train", 5)).most_common(1)[0][0]
    guesses = {
        "start": [asked(e)[0] for e in examples],
        "first rule": [task.permutations[asked(e)[1][0] - 1][asked(e)[0]] for e in examples],
        "last rule on the start": [task.permutations[asked(e)[1][-1] - 1][asked(e)[0]] for e in examples],
        "all but the last step": [e.steps[-2] for e in examples],
        "most frequent answer": [common] * len(examples),
    }
    answers = [e.answer for e in examples]
    measured = {name: sum(map(str.__eq__, guess, answers)) / len(answers) for name, guess in guesses.items()}
    # Frequent rules repeat themselves, and a permutation applied again may return: some way above chance.
    assert {name: share for name, share in measured.items() if share > 2 / 16} == {}


def test_words_cover_every_text() -> None:
    task = Rules(names=6, rules=5, trace="mixed", stop=True)
    known = set(task.words())
    for filler in ("giver", "repeated", "varied", "none"):
        for e in replace(task, filler=filler, pad=True).make(40, "train", 0):
            for text in (e.question, e.teacher_cue, e.student_cue, *e.steps, e.answer):
                assert set(text.split()) <= known


def test_seed_and_split_decide_the_examples() -> None:
    assert Rules().make(20, "train", 0) == Rules().make(20, "train", 0)
    assert Rules().make(20, "train", 0) != Rules().make(20, "train", 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": 2}, r"Rules.names is 2\. Choose a number from 3 to 20"),
        ({"rules": 0}, r"Rules.rules is 0\. Choose a number from 1 to 99"),
        ({"zipf": -1.0}, r"Rules.zipf is -1\.0\. Choose a number from 0 to 10"),
        ({"steps": (3, 2)}, r"Rules.steps is \(3, 2\)\. Choose a number from 1 to 99, or two in ascending"),
        ({"only": (17,)}, r"Rules.only holds 17\. The rules are numbered from 1 to 16"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rules(**settings)  # pyright: ignore[reportArgumentType]
