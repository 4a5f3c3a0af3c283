"""Byte-pair encodings of the embedded tasks: merges by hand, round trips, offsets."""

import pytest

from kvdistill.data.bpe import ByteBPE, MetaspaceBPE
from kvdistill.data.chain import Chain

TASK = Chain(names=8, steps=(1, 4), trace="mixed", filler="repeated", pad=True)
METHODS = [ByteBPE(vocab=312), MetaspaceBPE(vocab=160)]


def test_merges_by_hand() -> None:
    # Pairs of " Ann", " An", " Ann": (Ġ, A) and (A, n) three times, (n, n) twice. Of equals the pair of lower
    # ids is merged first, (A, n), then (Ġ, An), then (ĠAn, n).
    tokenizer = ByteBPE(vocab=2 + 256 + 3).train(["Ann", "An", "Ann"])
    assert tokenizer.convert_ids_to_tokens([258, 259, 260]) == ["An", "ĠAn", "ĠAnn"]
    assert tokenizer.tokenize("Ann An Annn") == ["An", "n", "ĠAn", "ĠAnn", "n"]
    fewer = ByteBPE(vocab=2 + 256 + 2).train(["Ann", "An", "Ann"])
    assert fewer.tokenize(" Ann") == ["ĠAn", "n"]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
def test_texts_of_the_task_come_back(method: ByteBPE | MetaspaceBPE) -> None:
    tokenizer = method.train(TASK.words())
    for example in TASK.make(8, "train", 0):
        text = example.question + "\n" + "\n".join(example.steps)
        wanted = text
        if method.kind == "metaspace_bpe":  # white space of any kind becomes a single space
            wanted = " ".join(text.split())
        ids = tokenizer(text, add_special_tokens=True)["input_ids"]
        assert tokenizer.decode(ids) == wanted
        assert tokenizer.decode([*ids, 1], skip_special_tokens=True) == wanted


def test_offsets_cover_every_visible_character_once() -> None:
    text = "Bob to Eve . Hal\nthen then Ann"
    byte = ByteBPE(vocab=312).train(TASK.words())(text, return_offsets_mapping=True)["offset_mapping"]
    assert "".join(text[start:end] for start, end in byte) == text
    # A line break is a token of its own, so that none covers two steps.
    assert (16, 17) in byte
    meta = MetaspaceBPE(vocab=160).train(TASK.words())(text, return_offsets_mapping=True)["offset_mapping"]
    assert "".join(text[start:end] for start, end in meta) == "".join(text.split())


def test_a_word_has_the_same_pieces_at_the_beginning_of_a_line() -> None:
    meta = MetaspaceBPE(vocab=160).train(TASK.words())
    assert meta.tokenize("Hal Hal\nHal") == ["\u2581Ha", "l"] * 3
    byte = ByteBPE(vocab=312).train(TASK.words())
    assert byte.tokenize("Hal Hal\nHal") == ["Ha", "l", "ĠHa", "l", "Ċ", "Ha", "l"]
    spaced = ByteBPE(vocab=312, prefix_space=True).train(TASK.words())
    assert spaced.tokenize("Hal Hal\nHal") == ["ĠHa", "l"] * 3
    spans = spaced("Hal Hal\nHal", return_offsets_mapping=True)["offset_mapping"]
    assert spans == [(0, 2), (2, 3), (4, 6), (6, 7), (8, 10), (10, 11)]


def test_a_space_belongs_to_the_word_behind_it() -> None:
    byte = ByteBPE(vocab=312).train(TASK.words())("to Dan", return_offsets_mapping=True)
    assert byte["offset_mapping"][-1] == (2, 6)
    assert byte.tokens()[-1] == "ĠDan"


def test_names_are_one_piece_or_several() -> None:
    names = TASK.words()[:8]
    few = ByteBPE(vocab=312).train(TASK.words())
    pieces = {name: len(few.tokenize(f" {name}")) for name in names}
    assert pieces == dict.fromkeys(names, 2) | {"Dan": 1}
    many = ByteBPE(vocab=400).train(TASK.words())
    assert {len(many.tokenize(f" {name}")) for name in names} == {1}
    assert len(many) == 325  # no merge is left


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
def test_the_same_words_give_the_same_tokens(method: ByteBPE | MetaspaceBPE) -> None:
    one, other = method.train(TASK.words()), method.train(TASK.words())
    assert one.get_vocab() == other.get_vocab()
    assert (one.pad_token_id, one.eos_token_id, one.bos_token_id) == (0, 1, None)
    assert len(one) == method.vocab


def test_unknown_characters() -> None:
    assert ByteBPE(vocab=312).train(TASK.words()).decode([0]) == "<pad>"
    byte = ByteBPE(vocab=312).train(TASK.words())
    assert byte.decode(byte("Zoë 🙂")["input_ids"]) == "Zoë 🙂"
    meta = MetaspaceBPE(vocab=160).train(TASK.words())
    assert meta.convert_ids_to_tokens(meta("Zoë")["input_ids"]) == ["▁", "Z", "o", "<unk>"]


@pytest.mark.parametrize(("method", "least"), [(ByteBPE(vocab=257), 258), (MetaspaceBPE(vocab=97), 98)])
def test_a_vocabulary_below_its_alphabet_is_refused(method: ByteBPE | MetaspaceBPE, least: int) -> None:
    with pytest.raises(ValueError, match=rf"new_tokenizer\.vocab is {method.vocab}.*choose {least} or more"):
        method.train(["Ann"])
