import pytest

from kvdistill.data.chain import Chain
from kvdistill.data.words import word_tokenizer


def test_ids_by_hand() -> None:
    tokenizer = word_tokenizer(["Ann", "hands", "Bob", ".", "Ann"])
    assert tokenizer("Ann hands\nBob . Zoe", add_special_tokens=True)["input_ids"] == [3, 4, 5, 6, 2]
    assert (
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
        tokenizer.unk_token_id,
        tokenizer.bos_token_id,
    ) == (0, 1, 2, None)
    assert len(tokenizer) == 7


def test_decoding_joins_with_single_spaces() -> None:
    chain = Chain(trace="verbose")
    tokenizer = word_tokenizer(chain.words())
    for example in chain.make(5, "train", 0):
        assert tokenizer.decode(tokenizer(example.question)["input_ids"]) == example.question
        assert (
            tokenizer.decode([*tokenizer(example.steps[0])["input_ids"], 1], skip_special_tokens=True)
            == example.steps[0]
        )


def test_special_tokens_can_be_added() -> None:
    tokenizer = word_tokenizer(["Ann", "."])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<bot>", "<eot>"]})
    assert tokenizer("Ann <bot> .")["input_ids"] == [3, 5, 4]
    assert tokenizer.decode([3, 5, 6, 4], skip_special_tokens=True) == "Ann ."


@pytest.mark.parametrize("word", ["", "two words", "<pad>", "tab\t"])
def test_what_is_no_word_is_refused(word: str) -> None:
    with pytest.raises(
        ValueError, match="cannot be a word of the vocabulary. Give words without white space"
    ):
        word_tokenizer(["Ann", word])
