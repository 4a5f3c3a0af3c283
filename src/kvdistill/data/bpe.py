"""Small byte-pair encodings, trained on the words of an embedded task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
PRINTABLE = tuple(chr(code) for code in range(33, 127))
"""Visible ASCII characters."""


@dataclass(frozen=True, kw_only=True)
class ByteBPE:
    """Byte-level byte-pair encoding: a word begins with the space before it, and every text can be written.

    Source: https://aclanthology.org/P16-1162; bytes as the alphabet as in GPT-2.
    """

    kind: Literal["byte_bpe"] = "byte_bpe"
    vocab: int = 320
    """Most tokens: padding and end of sequence, the 256 bytes, then one per merge."""
    prefix_space: bool = False
    """Put a space before the first word of a line too, as RoBERTa's ``add_prefix_space``; no line breaks."""

    def train(self, words: Sequence[str]) -> "PreTrainedTokenizerFast":
        """Train the encoding; the same words give the same tokens.

        Args:
            words: Words without white space; a repeated word counts again.

        Returns:
            A fast tokenizer with the ids ``<pad>`` 0 and ``</s>`` 1, without beginning-of-sequence token.

        Raises:
            ValueError: if ``vocab`` is too small for the alphabet.
        """
        from tokenizers import decoders, models, pre_tokenizers

        tokenizer: Any = _new(models.BPE())
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=self.prefix_space)
        tokenizer.pre_tokenizer = byte_level
        if self.prefix_space:
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), byte_level])
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        _learn_merges(tokenizer, words, self.vocab, alphabet, (PAD, EOS))
        return _wrapped(tokenizer, None)


@dataclass(frozen=True, kw_only=True)
class MetaspaceBPE:
    """Byte-pair encoding over characters, each word with ``▁`` before it, as in T5.

    White space of any kind separates words and is lost; ``decode`` joins words with single spaces. Characters
    that are neither visible ASCII nor in the words become ``<unk>``.

    Source: https://aclanthology.org/P16-1162; ``▁`` as in https://aclanthology.org/D18-2012.
    """

    kind: Literal["metaspace_bpe"] = "metaspace_bpe"
    vocab: int = 160
    """Most tokens: padding, end of sequence, unknown, one per character, then one per merge."""

    def train(self, words: Sequence[str]) -> "PreTrainedTokenizerFast":
        """Train the encoding; the same words give the same tokens.

        Args:
            words: Words without white space; a repeated word counts again.

        Returns:
            A fast tokenizer with the ids ``<pad>`` 0, ``</s>`` 1 and ``<unk>`` 2, without
            beginning-of-sequence token.

        Raises:
            ValueError: if ``vocab`` is too small for the alphabet.
        """
        from tokenizers import decoders, models, pre_tokenizers

        tokenizer: Any = _new(models.BPE(unk_token=UNK))
        # ``always``: a word has the same pieces at the beginning of a line and after a space.
        metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
        split = [pre_tokenizers.WhitespaceSplit(), metaspace]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
        alphabet = sorted({*PRINTABLE, "▁", *"".join(words)})
        _learn_merges(tokenizer, words, self.vocab, alphabet, (PAD, EOS, UNK))
        return _wrapped(tokenizer, UNK)


BPE = ByteBPE | MetaspaceBPE


def _new(model: Any) -> "Tokenizer":
    """A tokenizer of the tokenizers library, which is imported late since ``config`` reads this file."""
    from tokenizers import Tokenizer

    return Tokenizer(model)


def _learn_merges(
    tokenizer: Any, words: Sequence[str], vocab: int, alphabet: Sequence[str], special: tuple[str, ...]
) -> None:
    """Learn merges from the words, each with the space before it that it has within a text."""
    from tokenizers import trainers

    least = len(alphabet) + len(special)
    if vocab < least:
        raise ValueError(
            f"model.new_tokenizer.vocab is {vocab}, but alphabet and special tokens alone are {least}: "
            f"choose {least} or more."
        )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        min_frequency=1,
        special_tokens=list(special),
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    # No merge crosses a word: both pre-tokenizers cut before each space.
    tokenizer.train_from_iterator([f" {word}" for word in words], trainer)


def _wrapped(tokenizer: "Tokenizer", unknown: str | None) -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=unknown,
        clean_up_tokenization_spaces=False,
    )
