"""Which chain of thought a reader reads: the student's, a named trace, or one of the sampled ones."""

from collections import Counter

from kvdistill.data import Chain, Gsm8k
from kvdistill.data.keys import question_key
from kvdistill.data.readings import SampledText, StudentText, TraceText, without_chain
from kvdistill.data.rows import Row
from kvdistill.text import Example, NamedTrace

TRACES = (NamedTrace("terse", ("b",), "briefly"), NamedTrace("verbose", ("a b", "c d"), "fully"))
EXAMPLE = Example("q", ("b",), "b", "1", teacher_cue="briefly", traces=TRACES)
THREE = (("x",), ("y", "y"), ("z", "z", "z"))


def test_the_students_text_is_the_example_itself() -> None:
    assert StudentText().of(EXAMPLE, 3) is StudentText().longest(EXAMPLE) is EXAMPLE


def test_a_named_trace_comes_with_its_cue() -> None:
    read = TraceText("verbose").of(EXAMPLE, 0)
    assert read is not None
    assert (read.steps, read.teacher_cue) == (("a b", "c d"), "fully")
    assert TraceText("verbose").longest(EXAMPLE) == read
    assert TraceText("words").of(EXAMPLE, 0) is None
    assert TraceText("words").longest(EXAMPLE).steps == ()


def test_places_read_different_chains_of_an_epoch() -> None:
    key = question_key(EXAMPLE)
    texts = [SampledText({key: THREE}, place) for place in range(4)]
    for epoch in range(5):
        read = [text.of(EXAMPLE, epoch) for text in texts]
        assert read[3] is None
        assert {each.steps for each in read if each is not None} == set(THREE)
    assert texts[0].longest(EXAMPLE).steps == ("z", "z", "z")
    other = Example("another", ("b",), "b", "1")
    assert texts[0].of(other, 0) is None
    assert texts[0].longest(other).steps == ()


def test_every_chain_is_drawn_equally_often() -> None:
    text = SampledText({question_key(EXAMPLE): THREE}, 1, seed=5)
    drawn = Counter(text.of(EXAMPLE, epoch).steps for epoch in range(600))  # pyright: ignore
    assert all(150 < drawn[steps] < 250 for steps in THREE)


def test_without_chain_keeps_the_number_of_dependent_steps() -> None:
    bare = without_chain(EXAMPLE)
    assert (bare.steps, bare.traces, bare.dependent_steps, bare.question) == ((), (), 1, "q")


def test_generated_problems_have_both_traces_whichever_they_are_taught_by() -> None:
    verbose = Chain(names=5, steps=2, trace="verbose", filler="varied").make(3, "train", 0)
    for short, long in zip(
        Chain(names=5, steps=2, filler="varied").make(3, "train", 0), verbose, strict=True
    ):
        assert short.traces == long.traces
        assert [trace.steps for trace in short.traces] == [short.steps, long.steps]
        assert [trace.cue for trace in short.traces] == [short.teacher_cue, long.teacher_cue]


def test_a_row_of_gsm8k_has_words_and_equations() -> None:
    answer = "May: 48/2 = <<48/2=24>>24.\nSo she is glad.\nAll: <<48+24=72>>72.\n#### 72"
    example = Gsm8k().example(Row({"question": "q", "answer": answer}, "file, line 1", 1, "g:1"))
    words, equations = example.traces
    assert (words.name, words.steps) == ("words", ("May: 48/2 = 24.", "So she is glad.", "All: 72."))
    assert (equations.name, equations.steps) == ("equations", ("<<48/2=24>>", "<<48+24=72>>"))
    plain = Row({"question": "q", "answer": "It is 3.\n#### 3"}, "file, line 2", 2, "g:2")
    assert Gsm8k().example(plain).traces == ()
