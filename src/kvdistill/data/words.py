"""Word-level tokenizer for small closed vocabularies, such as that of ``Chain``."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "</s>", "<unk>")


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer that splits at white space; ``decode`` joins words with single spaces.

    Args:
        words: the vocabulary; repeated words count once.

    Returns:
        A fast tokenizer with the ids ``<pad>`` 0, ``</s>`` 1, ``<unk>`` 2, then the words in order of first
        appearance. It has no beginning-of-sequence token.

    Raises:
        ValueError: if an entry is empty, holds white space or is one of the special tokens.
    """
    wrong = next((word for word in words if word.split() != [word] or word in SPECIAL), None)
    if wrong is not None:
        raise ValueError(
            f"{wrong!r} cannot be a word of the vocabulary. Give words without white space, none of "
            f"{', '.join(SPECIAL)}."
        )
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys((*SPECIAL, *words)))}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    # A property of the tokenizers library that its type stubs leave out.
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
