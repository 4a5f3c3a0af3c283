import itertools
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

import pico_tokenizer
from kvdistill.data import segments
from kvdistill.data.chain import Chain
from kvdistill.data.collate import encode_questions
from kvdistill.data.encode import (
    CHARACTERS_PER_TOKEN,
    LARGEST,
    encode,
    encode_all,
    num_tokens,
    step_ends,
)
from kvdistill.data.sources import load
from kvdistill.data.template import Chat, Plain
from kvdistill.text import Encoded, Example, Segment

EXAMPLE = Example("Ann to Bob . start Ann 1 hands ?", ("Ann hands Bob .", "Bob"), "Bob", "x")
CUED = replace(EXAMPLE, teacher_cue="fully", student_cue="briefly")


def words_of(encoded: Encoded) -> dict[str, str]:
    tokenizer = pico_tokenizer.word_level()
    read = encoded.teacher_mode
    parts = {
        "question": read.question,
        "cue": read.cue,
        "student_cue": encoded.student_mode.cue,
        "cot": read.cot,
        "prompt": read.prompt,
        "answer": read.answer,
    }
    return {name: tokenizer.decode(segment.ids) for name, segment in parts.items()}


def overlap(span: tuple[int, int], start: int, end: int) -> bool:
    return max(span[0], start) < min(span[1], end)


def slow_step_ends(cot: Segment, steps: tuple[str, ...]) -> tuple[int, ...]:
    """Every token goes to the first step that it overlaps; the last token of each step that got one."""
    starts = [0, *itertools.accumulate(len(step) + 1 for step in steps)]
    bounds = [(start, start + len(step)) for start, step in zip(starts, steps, strict=False)]
    owners = [
        next((s for s, bound in enumerate(bounds) if overlap(span, *bound)), None) for span in cot.spans
    ]
    return tuple(
        max(t for t, owner in enumerate(owners) if owner == s) for s in range(len(steps)) if s in owners
    )


def test_words_by_hand() -> None:
    encoded = encode(EXAMPLE, pico_tokenizer.word_level())
    assert words_of(encoded) == {
        "question": EXAMPLE.question,
        "cue": "",
        "student_cue": "",
        "cot": "Ann hands Bob . Bob",
        "prompt": "The answer is:",
        "answer": "Bob </s>",
    }
    assert (
        encoded.teacher_mode.question.text,
        encoded.teacher_mode.cot.text,
        encoded.teacher_mode.answer.text,
    ) == (
        f"{EXAMPLE.question}\n",
        "Ann hands Bob .\nBob\n",
        " Bob",
    )
    assert encoded.teacher_mode.step_ends == (3, 4)
    assert encoded.teacher_mode.cot.spans == ((0, 3), (4, 9), (10, 13), (14, 15), (16, 19))
    assert encoded.teacher_mode.answer.spans == ((1, 4), (4, 4))
    assert num_tokens(encoded) == 9 + 5 + 3 + 2


def test_cues_close_the_question_of_their_own_reader() -> None:
    words = words_of(encode(CUED, pico_tokenizer.word_level()))
    assert (words["question"], words["cue"], words["student_cue"]) == (EXAMPLE.question, "fully", "briefly")
    same = words_of(encode(replace(CUED, teacher_cue="briefly"), pico_tokenizer.word_level()))
    assert (same["question"], same["cue"], same["student_cue"]) == (f"{EXAMPLE.question} briefly", "", "")


def test_a_chat_template_closes_the_turn_after_the_cue() -> None:
    tokenizer = pico_tokenizer.byte_bpe([EXAMPLE.question])
    tokenizer.chat_template = pico_tokenizer.CHAT_TEMPLATE
    turn = [{"role": "user", "content": EXAMPLE.question}]
    whole = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
    encoded = encode(EXAMPLE, tokenizer)
    assert list(encoded.teacher_mode.question.ids) == whole
    assert encoded.teacher_mode.question.spans[0] == (0, 0)
    assert tokenizer.decode(encoded.teacher_mode.answer.ids) == " Bob<|end|>"
    cued = encode(CUED, tokenizer)
    assert cued.teacher_mode.question.text == f"<|user|>{EXAMPLE.question}"
    assert (cued.teacher_mode.cue.text, cued.student_mode.cue.text) == (
        " fully<|end|>\n<|assistant|>",
        " briefly<|end|>\n<|assistant|>",
    )


def test_the_last_step_can_be_left_out() -> None:
    tokenizer = pico_tokenizer.word_level()
    encoded = encode(EXAMPLE, tokenizer, drop_last_step=True)
    assert (encoded.teacher_mode.cot.text, encoded.teacher_mode.step_ends, encoded.example) == (
        "Ann hands Bob .\n",
        (3,),
        EXAMPLE,
    )
    bare = encode(replace(EXAMPLE, steps=("Bob",)), tokenizer, drop_last_step=True)
    assert (bare.teacher_mode.cot, bare.teacher_mode.step_ends) == (Segment("", (), ()), ())


def test_spans_of_a_byte_level_tokenizer_spell_the_text() -> None:
    tokenizer = pico_tokenizer.byte_bpe(["12+3=15 apples"])
    encoded = encode(Example("How many?", ("<<12+3=15>>", "15 apples"), "15", "x"), tokenizer, Plain())
    assert (
        "".join(encoded.teacher_mode.cot.text[start:end] for start, end in encoded.teacher_mode.cot.spans)
        == "<<12+3=15>>\n15 apples\n"
    )
    first, second = encoded.teacher_mode.step_ends
    assert encoded.teacher_mode.cot.spans[first][1] == len("<<12+3=15>>")
    assert encoded.teacher_mode.cot.spans[second][1] == len("<<12+3=15>>\n15 apples")


def test_step_ends_by_hand() -> None:
    """Characters: ``ab`` 0-2, line break, ``c`` 3-4, line break, nothing, line break, ``de`` 6-8."""
    steps = ("ab", "c", "", "de")
    text = "ab\nc\n\nde\n"
    apart = Segment(text, (0,) * 7, ((0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 8), (8, 9)))
    assert step_ends(apart, steps) == (1, 3, 5)
    swallowed = Segment(text, (0,) * 3, ((0, 1), (1, 4), (5, 8)))
    assert step_ends(swallowed, steps) == (1, 2)
    shared = Segment(text, (0,) * 4, ((0, 2), (0, 2), (3, 4), (3, 4)))
    assert step_ends(shared, steps) == (1, 3)
    without_width = Segment(text, (0,) * 3, ((0, 2), (1, 1), (3, 4)))
    assert step_ends(without_width, steps) == (0, 2)
    assert step_ends(Segment(text, (), ()), steps) == ()


@given(st.lists(st.text("ab .é", max_size=6), max_size=5), st.data())
def test_step_ends_equal_the_slow_rule_for_any_cut(steps: list[str], data: st.DataObject) -> None:
    text = "".join(f"{step}\n" for step in steps)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text))))) if text else []
    cot = Segment(text, tuple(range(max(len(cuts) - 1, 0))), tuple(itertools.pairwise(cuts)))
    assert step_ends(cot, tuple(steps)) == slow_step_ends(cot, tuple(steps))


@pytest.mark.parametrize("name", pico_tokenizer.REAL)
def test_real_tokenizers_on_real_texts(shared_data: Path, name: str) -> None:
    tokenizer = pico_tokenizer.real(shared_data, name)
    examples = load(shared_data / "math/gsm8k/test.jsonl").examples[:150]
    encoded = encode_all(examples, tokenizer)
    direct = encode_all([replace(example, steps=()) for example in examples], tokenizer)
    assert len(encoded.samples) == 150
    assert encoded.dropped == ()
    for sample, bare in zip(encoded.samples, direct.samples, strict=True):
        read, answers = sample.teacher_mode, bare.teacher_mode
        assert read.prompt == answers.prompt == encoded.samples[0].teacher_mode.prompt
        assert (read.question, read.answer, answers.cot.ids) == (answers.question, answers.answer, ())
        assert read.step_ends == slow_step_ends(read.cot, sample.example.steps)
        assert len(read.step_ends) == len(sample.example.steps)
        assert read.answer.ids[-1] == tokenizer.eos_token_id
        ids = [*tokenizer(read.question.text, add_special_tokens=False)["input_ids"]]
        assert list(read.question.ids) == (
            [tokenizer.bos_token_id, *ids] if name in pico_tokenizer.ADD_BOS else ids
        )


def test_one_example_is_encoded_as_in_a_set() -> None:
    tokenizer, examples = (
        pico_tokenizer.word_level(),
        Chain(names=4, steps=2, trace="mixed").make(8, "train", 0),
    )
    assert [encode(example, tokenizer) for example in examples] == list(
        encode_all(examples, tokenizer).samples
    )
    assert encode_all([], tokenizer).samples == ()


def test_long_examples_are_left_out_and_counted_never_cut() -> None:
    tokenizer = pico_tokenizer.word_level()
    long = replace(EXAMPLE, question="Ann to Bob . " * 5 + EXAMPLE.question, sample_id="long")
    encoded = encode_all([EXAMPLE, long, EXAMPLE], tokenizer, max_length=19)
    assert [sample.sample_id for sample in encoded.samples] == ["x", "x"]
    assert encoded.dropped == (
        ("long", "39 tokens (question 29, chain of thought 5), more than max_length 19"),
    )
    assert encode_all([EXAMPLE], tokenizer, max_length=18).samples == ()
    with pytest.raises(
        ValueError,
        match=r"Sample long has 39 tokens .*more than max_length 19. Raise max_length, remove the sample",
    ):
        encode_all([EXAMPLE, long], tokenizer, max_length=19, on_long="error")


@pytest.mark.parametrize(("max_length", "limit"), [(19, "max_length 19 can hold"), (None, "any model reads")])
def test_an_example_of_far_too_many_characters_is_never_tokenized(
    monkeypatch: pytest.MonkeyPatch, max_length: int | None, limit: str
) -> None:
    tokenizer = pico_tokenizer.word_level()
    num = CHARACTERS_PER_TOKEN * (max_length or LARGEST)
    huge = replace(EXAMPLE, question="x" * num, sample_id="huge")
    longest = 0

    def watched(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> list[Segment]:
        nonlocal longest
        longest = max(longest, *map(len, texts))
        return segments.segments_of(texts, tokenizer)

    monkeypatch.setattr(import_module("kvdistill.data.encode"), "segments_of", watched)
    encoded = encode_all([EXAMPLE, huge], tokenizer, max_length=max_length)
    length = num + sum(map(len, (*EXAMPLE.steps, EXAMPLE.answer)))
    assert encoded.dropped == (("huge", f"{length} characters, more than {limit}"),)
    assert [sample.sample_id for sample in encoded.samples] == ["x"]
    assert longest < 100
    if max_length is None:
        with pytest.raises(ValueError, match="Sample huge has .* characters, more than any model reads"):
            encode(huge, tokenizer)
        with pytest.raises(ValueError, match="Sample 0 has .* characters, more than any model reads"):
            encode_questions([huge.question + "x"], tokenizer)
    with pytest.raises(ValueError, match=f"Sample huge has {length} characters, more than {limit}"):
        encode_all([EXAMPLE, huge], tokenizer, max_length=max_length, on_long="error")
    longest_allowed = replace(huge, question="x" * (num - length + num))
    assert len(encode_all([longest_allowed], tokenizer, max_length=max_length).samples) == 1


def test_questions_alone_are_read_as_the_student_was_taught() -> None:
    tokenizer = pico_tokenizer.word_level()
    batch = encode_questions(
        ["Ann to Bob . start Ann 1 hands ?", "Bob ?"],
        tokenizer,
        {"kind": "plain", "prompt": "The answer is:"},
    )
    taught = encode(EXAMPLE, tokenizer)
    assert batch.student_mode.question.ids[0].tolist() == list(taught.teacher_mode.question.ids)
    assert batch.student_mode.question.ids[1, -2:].tolist() == tokenizer("Bob ?")["input_ids"]
    assert batch.student_mode.question.mask.sum(1).tolist() == [9, 2]
    assert batch.student_mode.prompt.ids.tolist() == [list(taught.teacher_mode.prompt.ids)] * 2
    assert batch.student_mode.answer.ids.tolist() == [[1], [1]]
    assert batch.teacher_mode.cot.ids.shape == batch.teacher_mode.step_end.shape == torch.Size([2, 0])
    assert torch.equal(
        encode_questions(["Bob ?"], tokenizer, Plain()).student_mode.question.ids,
        encode_questions(["Bob ?"], tokenizer).student_mode.question.ids,
    )


def test_what_a_tokenizer_lacks_is_said_in_words() -> None:
    tokenizer = pico_tokenizer.word_level()
    with pytest.raises(
        ValueError, match=r"makes no token of the answer prompt ' '. Choose a prompt with words in it"
    ):
        encode(EXAMPLE, tokenizer, Plain(prompt=" "))
    with pytest.raises(ValueError, match="has no chat template"):
        encode(EXAMPLE, tokenizer, Chat())
    tokenizer.pad_token = None
    with pytest.raises(
        ValueError, match=r"has no padding token. Set tokenizer.pad_token = tokenizer.eos_token"
    ):
        encode(EXAMPLE, tokenizer)
    with pytest.raises(ValueError, match=r"ByT5Tokenizer gives no character offsets. Load its fast version"):
        encode(EXAMPLE, ByT5Tokenizer())
