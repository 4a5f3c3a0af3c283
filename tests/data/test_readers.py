from dataclasses import replace

import pytest

import pico_tokenizer
from kvdistill.data.encode import encode
from kvdistill.data.readers import Reader
from kvdistill.data.readings import TraceText
from kvdistill.data.template import Plain
from kvdistill.text import Example, NamedTrace

EXAMPLES = [
    Example("Ann ?", ("Bob", "Ann"), "Ann", "a"),
    Example("Bob ?", (), "Bob", "b", teacher_cue="fully"),
]


def test_a_reader_reads_what_teacher_mode_of_its_tokenizer_reads() -> None:
    tokenizer, template = pico_tokenizer.byte_bpe(["Ann", "Bob"]), Plain(prompt="Hence:")
    for example, reading in zip(EXAMPLES, Reader(tokenizer, template).read(EXAMPLES), strict=True):
        assert reading == encode(example, tokenizer, template).teacher_mode
        assert reading.prompt.text == "Hence:"


def test_a_further_reader_leaves_out_the_last_step_as_the_student_does() -> None:
    reader = Reader(pico_tokenizer.word_level(), drop_last_step=True)
    (reading,) = reader.read([Example("Ann ?", ("Bob", "Ann"), "Ann", "a")])
    assert reading.cot.text == "Bob\n"
    reader.tokenizer.pad_token = None
    with pytest.raises(ValueError, match="has no padding token"):
        Reader(reader.tokenizer)


def test_a_reader_of_another_text_reads_its_trace_under_its_cue() -> None:
    """Where there is none, it reads an empty chain; on the student's text it keeps its cue."""
    example = Example("Ann ?", ("Bob",), "Ann", "a", traces=(NamedTrace("verbose", ("so Bob",), "fully"),))
    reader = Reader(pico_tokenizer.word_level(["Ann", "Bob", "?", "so", "fully"]), text=TraceText("verbose"))
    long, none = reader.read([example, EXAMPLES[0]])
    assert (long.cot.text, long.cue.text, none.cot.text) == ("so Bob\n", " fully\n", "")
    asked = replace(reader, cue="so")
    (reading,) = asked.of_student_text().read([example])
    assert (reading.cot.text, reading.cue.text) == ("Bob\n", " so\n")
