import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from kvdistill.data.chain import NAMES, Chain
from kvdistill.data.split import VARIED, Filler, Split, Trace
from kvdistill.text import Example

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def hand_overs(question: str) -> dict[str, str]:
    words = question.split()
    return {words[i - 1]: words[i + 1] for i, word in enumerate(words) if word == "to"}


def start(question: str) -> str:
    words = question.split()
    return words[words.index("start") + 1]


def walk(question: str, steps: int) -> str:
    holder, handed = start(question), hand_overs(question)
    for _ in range(steps):
        holder = handed[holder]
    return holder


def problem(example: Example) -> tuple[str, ...]:
    """The order in which the names hold the parcel: cycle and start in one."""
    handed, order = hand_overs(example.question), [start(example.question)]
    while len(order) < len(handed):
        order.append(handed[order[-1]])
    return tuple(order)


def shortcuts(examples: Sequence[Example], steps: int, common: str) -> dict[str, float]:
    """Accuracy of everything that can be answered without following the chain to its end."""
    split = [example.question.split() for example in examples]
    orders = [problem(example) for example in examples]
    guesses = {
        f"word {i}": [words[i] for words in split] for i in range(len(split[0])) if split[0][i] in NAMES
    }
    guesses |= {
        f"{hops} hand-overs": [order[hops] for order in orders]
        for hops in range(len(orders[0]))
        if hops != steps
    }
    guesses["most frequent answer"] = [common] * len(examples)
    guesses["alphabetically first after the start"] = [min(order[1:]) for order in orders]
    answers = [example.answer for example in examples]
    return {name: sum(map(str.__eq__, guess, answers)) / len(answers) for name, guess in guesses.items()}


def test_a_problem_by_hand() -> None:
    """Three names have 6 orders, of which the last is for testing: 5 times the stride 5, modulo 6, is rank 1:
    digits 1, 0, 0.
    """
    (example,) = Chain(names=3, steps=2).make(1, "test", 0)
    assert sorted(example.question.split(" . ")) == [
        "Ann to Cid",
        "Bob to Ann",
        "Cid to Bob",
        "start Bob 2 hands ?",
    ]
    assert example.steps == ("Ann", "Cid")
    assert (example.answer, example.teacher_cue, example.student_cue) == ("Cid", "briefly", "briefly")


def test_a_verbose_step_has_four_words_and_a_terse_one_has_one() -> None:
    (terse,), (verbose,) = Chain().make(1, "train", 3), Chain(trace="verbose").make(1, "train", 3)
    assert [len(step.split()) for step in terse.steps] == [1] * 4
    assert [len(step.split()) for step in verbose.steps] == [4] * 4
    first, second, *_ = problem(verbose)
    assert verbose.steps[0] == f"then {first} hands {second}"
    assert (verbose.teacher_cue, verbose.student_cue) == ("fully", "briefly")
    assert len(terse.question.split()) == 4 * 8 + 5


def test_styles_are_twins() -> None:
    terse = Chain(trace="terse").make(50, "train", 7)
    verbose = replace(Chain(), trace="verbose").make(50, "train", 7)
    mixed = Chain(trace="mixed").make(50, "train", 7)
    for one, other, either, twin in zip(terse, verbose, mixed, [*terse[::2], *verbose[1::2]], strict=True):
        assert (one.question, one.answer, one.sample_id) == (other.question, other.answer, other.sample_id)
        assert twin in mixed
        assert either in (one, other)


@pytest.mark.parametrize("names", [3, 4, 5])
def test_splits_are_disjoint_and_together_whole(names: int) -> None:
    chain = Chain(names=names, steps=2)
    sets = {split: [problem(e) for e in chain.make(chain.capacity(split), split, 0)] for split in SPLITS}
    everything = [order for orders in sets.values() for order in orders]
    assert len(everything) == len(set(everything)) == {3: 6, 4: 24, 5: 120}[names]


def test_the_hand_overs_are_one_cycle() -> None:
    for example in Chain().make(200, "train", 1):
        assert len(set(problem(example))) == 8
        assert walk(example.question, 8) == start(example.question)


def test_a_step_may_be_several_hand_overs() -> None:
    every = Chain(steps=(1, 4), pad=True, trace="verbose").make(8, "train", 0)
    second = Chain(steps=(1, 4), pad=True, trace="verbose", stride=2).make(8, "train", 0)
    third = Chain(steps=(1, 4), stride=3).make(8, "train", 0)
    for one, two, three in zip(every, second, third, strict=True):
        holders = [step.split()[-1] for step in one.steps]
        assert [step.split()[-1] for step in two.steps] == [holders[1], holders[3]]
        assert two.steps[0].split()[1] == one.steps[0].split()[1]  # the first giver
        assert (two.question, two.answer) == (one.question, one.answer)
        assert list(three.steps) == ([holders[2]] if one.depth > 2 else []) + (
            [one.answer] if one.depth != 3 else []
        )


@pytest.mark.parametrize(("names", "steps"), [(8, 4), (8, 2), (5, 2), (12, 6)])
@pytest.mark.parametrize("split", ["train", "test"])
def test_no_shortcut_beats_chance(names: int, steps: int, split: Split) -> None:
    chain = Chain(names=names, steps=steps)
    common = Counter(
        e.answer for e in chain.make(min(4000, chain.capacity("train")), "train", 5)
    ).most_common(1)[0][0]
    # A set smaller than this cannot tell 1.2 times chance from noise; five names hold only 120 problems, so
    # all their splits serve.
    sets = [
        chain.make(min(4000, chain.capacity(part)), part, 2) for part in (SPLITS if names == 5 else (split,))
    ]
    measured = shortcuts([e for examples in sets for e in examples], steps, common)
    allowed = 1.2 / (names - 1)
    assert {name: accuracy for name, accuracy in measured.items() if accuracy > allowed} == {}


def test_the_measure_finds_a_shortcut_where_there_is_one() -> None:
    """With any permutation instead of one cycle, the parcel is back at the start in 3 of 8 cases."""
    rng, examples = random.Random(0), []
    for _ in range(4000):
        takers = rng.sample(NAMES[:8], 8)
        question = " ".join(f"{giver} to {taker} ." for giver, taker in zip(NAMES[:8], takers, strict=True))
        question += f" start {rng.choice(NAMES[:8])} 4 hands ?"
        examples.append(Example(question, (), walk(question, 4), ""))
    assert shortcuts(examples, 4, "Ann")["0 hand-overs"] == pytest.approx(3 / 8, abs=0.03)


def test_following_the_chain_is_always_right() -> None:
    for example in Chain(names=20, steps=9, trace="mixed").make(300, "validation", 0):
        assert walk(example.question, 9) == example.answer


def test_seed_and_split_decide_the_order() -> None:
    assert Chain().make(20, "train", 0) == Chain().make(20, "train", 0)
    assert Chain().make(20, "train", 0) != Chain().make(20, "train", 1)
    assert Chain().make(0, "train", 0) == []


def test_words_cover_every_text() -> None:
    chain = Chain(names=6, steps=3, trace="mixed")
    words = {
        word
        for e in chain.make(60, "train", 0)
        for text in (e.question, e.teacher_cue, *e.steps, e.answer)
        for word in text.split()
    }
    assert words <= set(chain.words())
    assert {"5", "The", "answer", "is:"} <= set(chain.words())


def test_wrong_settings_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"Chain.names is 2. Choose a number from 3 to 20"):
        Chain(names=2, steps=1)
    with pytest.raises(ValueError, match=r"Chain.steps is 8 with 8 names. Choose a number from 1 to 7"):
        Chain(steps=8)
    with pytest.raises(ValueError, match=r"Chain.stride is 0. Choose 1 or more."):
        Chain(stride=0)
    with pytest.raises(
        ValueError, match=r"Chain.steps is \(3, 2\) with 8 names. .* or two in ascending order"
    ):
        Chain(steps=(3, 2))
    with pytest.raises(
        ValueError,
        match=r"Chain has 4032 different test problems with 8 names, fewer than the 4033 asked for",
    ):
        Chain().make(4033, "test", 0)


def test_questions_of_mixed_depth_are_stratified_and_right() -> None:
    """Each depth equally often in each style, in any prefix of a set; styles stay twins."""
    chain = Chain(names=6, steps=(1, 4), trace="mixed")
    examples = chain.make(400, "train", 0)
    counts = Counter((e.depth, e.teacher_cue) for e in examples)
    assert counts == {(depth, style): 50 for depth in range(1, 5) for style in ("briefly", "fully")}
    for e in examples:
        assert e.depth is not None
        assert e.question.endswith(f" {e.depth} hands ?")
        assert walk(e.question, e.depth) == e.answer == e.steps[-1].split()[-1]
        assert len(e.steps) == e.depth
    assert [e.question for e in examples] == [
        e.question for e in replace(chain, trace="terse").make(400, "train", 0)
    ]
    assert {e.depth for e in chain.make(chain.capacity("test"), "test", 0)} == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("filler", "first"),
    [("giver", "then {giver} hands {taker}"), ("repeated", "then then then {taker}"), ("none", "{taker}")],
)
def test_what_stands_between_results(filler: Filler, first: str) -> None:
    (example,) = Chain(steps=2, trace="verbose", filler=filler).make(1, "train", 3)
    giver, taker, *_ = problem(example)
    assert example.steps[0] == first.format(giver=giver, taker=taker)


def test_varied_fillers_differ_and_leave_the_question_alone() -> None:
    chain = Chain(steps=(1, 3), trace="verbose", filler="varied")
    examples, terse = (replace(chain, trace=trace).make(64, "train", 3) for trace in ("verbose", "terse"))
    assert [e.question for e in examples] == [e.question for e in terse]
    assert [e.steps for e in terse] == [tuple(step.split()[-1] for step in e.steps) for e in examples]
    fillers = {tuple(step.split()[:-1]) for e in examples for step in e.steps}
    assert len(fillers) > 30
    assert {len(words) for words in fillers} == {3}
    assert {word for words in fillers for word in words} == set(VARIED)


@pytest.mark.parametrize("trace", ["terse", "verbose"])
def test_padded_traces_have_all_steps_and_hold_the_answer(trace: Trace) -> None:
    chain = Chain(steps=(1, 4), trace=trace, pad=True)
    for e in chain.make(40, "train", 3):
        assert e.depth is not None
        results = [step.split()[-1] for step in e.steps]
        assert len(results) == 4
        assert results[: e.depth] == list(problem(e)[1 : e.depth + 1])
        assert set(results[e.depth - 1 :]) == {e.answer}
    short = Chain(steps=1, trace="verbose", pad=True, stop=True).make(1, "train", 3)[0]
    assert short.steps[-1].endswith(f"{short.answer} .")


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_shortcut_beats_chance_at_any_depth(split: Split) -> None:
    """Chance over the depths: the answer is each of the other seven names equally often."""
    examples = Chain(steps=(1, 4)).make(4000, split, 2)
    common = Counter(e.answer for e in examples).most_common(1)[0][0]
    for depth in range(1, 5):
        some = [e for e in examples if e.depth == depth]
        measured = shortcuts(some, depth, common)
        # A thousand questions a depth: three standard errors above chance.
        assert {name: share for name, share in measured.items() if share > 1 / 7 + 0.033} == {}
