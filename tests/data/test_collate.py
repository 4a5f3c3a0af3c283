import itertools
from dataclasses import replace

import pytest
import torch

import pico_tokenizer
from kvdistill.data.chain import Chain
from kvdistill.data.collate import Side, collate, cot_id_of, steps_of_tokens
from kvdistill.data.encode import encode, encode_all
from kvdistill.data.readers import Reader
from kvdistill.data.template import Plain
from kvdistill.text import Encoded, Example, Padded, Segment

PARTS = ("question", "cue", "cot", "prompt", "answer")


def samples() -> list[Encoded]:
    tokenizer = pico_tokenizer.word_level(["Ann", "Bob", ".", "?", "so", "fully"])
    examples = [
        Example("Ann ?", ("Bob", "Ann ."), "Ann", "a"),
        Example("Bob Ann ?", ("Ann",), "Ann Bob", "b", teacher_cue="fully"),
        Example("Bob Ann ?", (), "Ann", "c"),
    ]
    return [encode(example, tokenizer) for example in examples]


def unpadded(part: Padded) -> list[list[int]]:
    return [ids[mask].tolist() for ids, mask in zip(part.ids, part.mask, strict=True)]


def test_right_padding_by_hand() -> None:
    batch = collate(samples(), pad_id=0)
    assert batch.teacher_mode.question.ids.tolist() == [[3, 6, 0], [4, 3, 6], [4, 3, 6]]
    assert batch.teacher_mode.question.mask.tolist() == [[True, True, False], [True] * 3, [True] * 3]
    assert batch.teacher_mode.cue.ids.tolist() == [[0], [8], [0]]
    assert batch.teacher_mode.cue.mask.tolist() == [[False], [True], [False]]
    assert batch.student_mode.cue.ids.shape == batch.student_mode.cot.ids.shape == (3, 0)
    assert batch.teacher_mode.cot.ids.tolist() == [[4, 3, 5], [3, 0, 0], [0, 0, 0]]
    assert batch.teacher_mode.cot.lengths.tolist() == [3, 1, 0]
    assert batch.teacher_mode.step_end.tolist() == [[True, False, True], [True, False, False], [False] * 3]
    assert batch.teacher_mode.step.tolist() == [[0, 1, 1], [0, -1, -1], [-1, -1, -1]]
    assert batch.student_mode.step.shape == (3, 0)
    assert batch.teacher_mode.answer.ids.tolist() == [[3, 1, 0], [3, 4, 1], [3, 1, 0]]
    assert batch.sample_ids == ("a", "b", "c")
    assert len(batch) == 3


def test_a_line_break_belongs_to_the_step_before_it() -> None:
    """With a tokenizer that keeps line breaks, alone or at the end of another token."""
    text = "a b\nc\n"
    apart = Segment(text, (1, 2, 3, 4, 5), ((0, 1), (1, 3), (3, 4), (4, 5), (5, 6)))
    joined = Segment(text, (1, 2, 3), ((0, 1), (1, 4), (4, 6)))
    (sample, *_) = samples()
    for cot, ends, expected in ((apart, (1, 3), [0, 0, 0, 1, 1]), (joined, (1, 2), [0, 0, 1])):
        reading = replace(sample.teacher_mode, cot=cot, step_ends=ends)
        assert steps_of_tokens(reading) == expected
    assert steps_of_tokens(replace(sample.teacher_mode, cot=apart, step_ends=())) == [0] * 5


def test_left_padding_by_hand() -> None:
    batch = collate(samples(), pad_id=9, padding_side="left")
    assert batch.teacher_mode.question.ids.tolist() == [[9, 3, 6], [4, 3, 6], [4, 3, 6]]
    assert batch.teacher_mode.cot.ids.tolist() == [[4, 3, 5], [9, 9, 3], [9, 9, 9]]
    assert batch.teacher_mode.step_end.tolist() == [[True, False, True], [False, False, True], [False] * 3]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_sample_alone_is_the_sample_in_a_batch(side: Side) -> None:
    examples = Chain(names=4, steps=2, trace="mixed").make(8, "train", 0)
    encoded = encode_all(examples, pico_tokenizer.word_level()).samples
    together = collate(encoded, 0, side)
    for place, sample in enumerate(encoded):
        alone = collate([sample], 0, side)
        for mode, part in itertools.product(("student_mode", "teacher_mode"), PARTS):
            read = getattr(getattr(together, mode), part)
            lone = getattr(getattr(alone, mode), part)
            expected = getattr(getattr(sample, mode), part)
            assert unpadded(read)[place] == unpadded(lone)[0] == list(expected.ids)
        read, valid = together.teacher_mode, together.teacher_mode.cot.mask[place]
        assert read.step_end[place][valid].nonzero()[:, 0].tolist() == [*sample.teacher_mode.step_ends]
        assert [*map(tuple, read.spans[place][valid].tolist())] == [*sample.teacher_mode.cot.spans]
        assert together.cot_id[place] == alone.cot_id[0]


def test_the_chain_number_depends_on_chain_of_thought_and_answer_alone() -> None:
    tokenizer = pico_tokenizer.word_level()
    one, twin, other, moved = (
        encode(example, tokenizer)
        for example in (
            Example("Ann ?", ("Bob",), "Bob", "1"),
            Example("Bob to Ann ?", ("Bob",), "Bob", "2"),
            Example("Ann ?", ("Bob",), "Ann", "3"),
            Example("Ann ?", (), "Bob Bob", "4"),
        )
    )
    batch = collate([one, twin, other, moved], 0)
    assert batch.cot_id.dtype == torch.long
    assert batch.cot_id[0] == batch.cot_id[1]
    assert len(set(batch.cot_id.tolist())) == 3
    # Pinned: blake2b with 8 bytes of "Bob\n\0 Bob", big-endian, halved. A stored number must mean the same on
    # every machine.
    assert cot_id_of(one) == 0xDEFE3799CBBBCA16 >> 1


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"A batch needs at least one sample. Check that the data set is not empty"
    ):
        collate([], 0)


def test_a_further_reader_reads_the_same_texts_in_its_own_tokens() -> None:
    encoded = samples()
    reader = Reader(pico_tokenizer.byte_bpe(["Ann", "Bob"]), Plain(prompt="Hence:"))
    batch = collate(encoded, 0, readers={"large": reader})
    read = batch.read_by("large")
    assert batch.read_by("own") is batch.teacher_mode
    for place, sample in enumerate(encoded):
        texts = [reader.tokenizer.decode(ids) for ids in unpadded(read.cot)[place : place + 1]]
        assert texts == ["".join(f"{step}\n" for step in sample.example.steps)]
        spans = read.spans[place][read.cot.mask[place]].tolist()
        assert "".join(sample.teacher_mode.cot.text[start:end] for start, end in spans) == texts[0]
        assert read.step_end[place].sum() == len(sample.example.steps)
    assert reader.tokenizer.decode(unpadded(read.prompt)[0]) == "Hence:"


@pytest.mark.parametrize("side", ["right", "left"])
def test_tokens_of_another_tokenizer_are_aligned(side: Side) -> None:
    encoded = samples()
    tokenizer = pico_tokenizer.byte_bpe(["Ann", "Bob"])
    readers = {
        "bytes": Reader(tokenizer, Plain()),
        "last": Reader(tokenizer, Plain(), token_weights="last"),
        "same": Reader(pico_tokenizer.word_level(["Ann", "Bob", ".", "?", "so", "fully"]), Plain()),
    }
    batch = collate(encoded, 0, side, readers)
    # A reader with the student's tokens is not aligned.
    assert list(batch.alignments) == ["bytes", "last"]
    student, aligned = batch.teacher_mode, batch.alignments["bytes"]
    assert aligned.mask is student.cot.mask
    assert aligned.step_end is student.step_end
    assert torch.equal(aligned.covered, student.cot.mask)
    teacher = batch.teachers["bytes"]
    places = [*zip(*(axis.tolist() for axis in (aligned.average > 0).nonzero(as_tuple=True)), strict=True)]
    assert len(places) >= 4
    for row, token, slot in places:
        text = encoded[row].teacher_mode.cot.text
        column = aligned.index[row, token, slot]
        assert teacher.cot.mask[row, column]
        start, end = teacher.spans[row, column].tolist()
        first, stop = student.spans[row, token].tolist()
        assert text[start:end].strip() in text[first:stop]
    chosen = batch.alignments["last"].average
    assert torch.equal(chosen.sum(-1), student.cot.mask.float())
    assert ((chosen == 0) | (chosen == 1)).all()


def test_a_reader_of_another_text_is_refused() -> None:
    reader = Reader(pico_tokenizer.byte_bpe(["Ann"]), Plain(), drop_last_step=True)
    with pytest.raises(
        ValueError, match=r"The teacher large reads another chain of thought of sample a.*drop_last_step"
    ):
        collate(samples(), 0, readers={"large": reader})
