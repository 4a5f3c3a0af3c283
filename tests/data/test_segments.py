from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import pico_tokenizer
from kvdistill.data.encode import encode
from kvdistill.data.segments import continuations_of, segments_of
from kvdistill.data.template import Plain
from kvdistill.text import Example

TEXTS = ("The answer is: 48 apples, Ann to Bob.", "Ann hands 3+4 = <<3+4=7>>7 coins to Eve", "a  a   a    a")
ANSWERS = ("48", "-7", "1080.5", "Eve", "Ann to Bob")


def sentence_piece(scheme: str) -> PreTrainedTokenizerFast:
    """A BPE in SentencePiece's letters; ``legacy`` starts every text with a space, as Llama 2 and Mistral."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    if scheme == "legacy":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif scheme == "replace":
        backend.normalizer = normalizers.Replace(" ", "▁")
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.decoder = decoders.Metaspace()
    alphabet = sorted(set("".join(TEXTS) + "0123456789.-?\n▁") - {" "})
    # Pieces do not cross words, as SentencePiece trains them; runs of spaces are pieces.
    words = [f" {word}" for text in TEXTS for word in text.split()]
    trainer = trainers.BpeTrainer(
        vocab_size=200,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    if scheme == "legacy":
        backend.train_from_iterator([word.strip() for word in words], trainer)
    else:
        backend.train_from_iterator(words, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def written_after_the_prompt(tokenizer: PreTrainedTokenizerFast, prompt: str, answers: Sequence[str]) -> None:
    """The answer's tokens are the end of those of prompt and answer in one text, and its spans those of the
    characters there.
    """
    for answer in answers:
        encoded = encode(Example("Who?", ("Eve",), answer, "x"), tokenizer, Plain(prompt=prompt))
        whole = tokenizer(f"a {prompt} {answer}", add_special_tokens=False, return_offsets_mapping=True)
        num = len(encoded.teacher_mode.answer.ids) - 1
        assert list(encoded.teacher_mode.answer.ids[:-1]) == whole["input_ids"][-num:]
        shift = len(f"a {prompt}")
        tokens = tokenizer.convert_ids_to_tokens(whole["input_ids"])
        expected = []
        for token, (start, end) in zip(tokens, whole["offset_mapping"], strict=True):
            # A lone mark has the next word's letter in the library, and no character here.
            marked = token == "▁" and f"a {prompt} {answer}"[start:end] != " "
            expected.append((start - shift, (start if marked else end) - shift))
        assert encoded.teacher_mode.answer.spans[:-1] == tuple(expected[-num:])
        covered = {place for start, end in encoded.teacher_mode.answer.spans for place in range(start, end)}
        assert covered >= {
            place for place, letter in enumerate(encoded.teacher_mode.answer.text) if letter != " "
        }


@pytest.mark.parametrize("scheme", ["legacy", "replace", "always", "first", "never"])
def test_answers_are_written_as_after_the_prompt(scheme: str) -> None:
    written_after_the_prompt(sentence_piece(scheme), "The answer is:", ANSWERS)


def test_one_space_stands_before_an_answer_by_hand() -> None:
    tokenizer = sentence_piece("legacy")
    (alone,), (behind,) = segments_of([" 48"], tokenizer), continuations_of([" 48"], tokenizer)
    assert tokenizer.convert_ids_to_tokens(alone.ids) == ["▁", "▁48"]
    assert tokenizer.convert_ids_to_tokens(behind.ids) == ["▁48"]
    assert behind.spans == ((0, 3),)
    assert continuations_of(["48", "", "  48"], tokenizer)[:2] == segments_of(["48", ""], tokenizer)
    two = continuations_of(["  48"], tokenizer)[0]
    assert tokenizer.convert_ids_to_tokens(two.ids) == ["▁", "▁48"]
    assert continuations_of([], tokenizer) == []


def test_every_segment_behind_the_question_has_its_space_once() -> None:
    tokenizer = sentence_piece("legacy")
    example = Example(
        "Ann", (" Ann hands Eve", "Bob"), "Eve", "x", teacher_cue="to Eve", student_cue="to Bob"
    )
    encoded = encode(example, tokenizer, Plain(prompt=" The answer is:"))
    for segment in (
        encoded.teacher_mode.cue,
        encoded.student_mode.cue,
        encoded.teacher_mode.cot,
        encoded.teacher_mode.prompt,
        encoded.teacher_mode.answer,
    ):
        first, second = tokenizer.convert_ids_to_tokens(segment.ids[:2])
        assert first.startswith("▁") and first != "▁", (first, second)
        assert segment.spans[0][0] == 0
    assert [encoded.teacher_mode.cot.spans[end][1] for end in encoded.teacher_mode.step_ends] == [
        len(" Ann hands Eve"),
        len(" Ann hands Eve\nBob"),
    ]


@pytest.mark.parametrize("name", pico_tokenizer.REAL)
def test_real_tokenizers_write_answers_as_after_the_prompt(shared_data: Path, name: str) -> None:
    tokenizer = pico_tokenizer.real(shared_data, name)
    answers = [answer.lower() for answer in ANSWERS] if name == "bert" else ANSWERS
    written_after_the_prompt(tokenizer, "The answer is:", answers)
    texts = [f" {answer}" for answer in answers]
    if name == "mistral_v1":
        assert tokenizer.convert_ids_to_tokens(continuations_of([" 48"], tokenizer)[0].ids) == ["▁", "4", "8"]
        assert continuations_of([" 48"], tokenizer)[0].spans == ((0, 1), (1, 2), (2, 3))
        assert continuations_of(texts, tokenizer) != segments_of(texts, tokenizer)
    else:
        assert continuations_of(texts, tokenizer) == segments_of(texts, tokenizer)


def test_a_word_mark_without_a_space_covers_no_character() -> None:
    tokenizer = sentence_piece("legacy")
    (digits, space) = segments_of(["48", "7 48"], tokenizer)
    assert tokenizer.convert_ids_to_tokens(digits.ids) == ["▁48"]
    assert digits.spans == ((0, 2),)
    # No word begins with 7, so that the mark is a token of its own.
    assert tokenizer.convert_ids_to_tokens(space.ids) == ["▁", "7", "▁48"]
    assert space.spans == ((0, 0), (0, 1), (1, 4))
