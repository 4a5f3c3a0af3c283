"""A tokenizer whose tokens are whole words."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "</s>", "<unk>")


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that cuts at white space and knows ``words``; ``decode`` joins them with single spaces.

    Ids: ``<pad>`` 0, ``</s>`` 1, ``<unk>`` 2, then the words in the order of their first appearance. No
        beginning-of-sequence token.

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
    # The names the tokenizers library gives its attributes are properties that its type stubs leave out.
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
