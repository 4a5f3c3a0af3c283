"""Tokenizers for tests: two that are built here in a blink, and the real ones where they lie beside the
project.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from kvdistill.data.chain import Chain
from kvdistill.data.words import word_tokenizer

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}<|{{ turn.role }}|>{{ turn.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# Special tokens that the bare tokenizer files do not name; BERT has no end of sequence, so its separator
# stands in.
REAL = {
    "gpt2": {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "bos_token": "<|endoftext|>"},
    "gptneox": {"eos_token": "<|endoftext|>", "pad_token": "<|padding|>", "bos_token": "<|endoftext|>"},
    "qwen": {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    "mistral_v1": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"},
    "opt": {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "</s>"},
    "t5": {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
    "bert": {"eos_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"},
}
ADD_BOS = {"mistral_v1", "opt"}


def word_level(words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Whole words: those given, or those of the parcel task with four names."""
    return word_tokenizer(words or Chain(names=4, steps=2).words())


def byte_bpe(texts: Sequence[str], vocabulary: int = 400) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on ``texts``, with a beginning-of-sequence token that only a chat template
    writes.
    """
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    special = ["<pad>", "</s>", "<s>", "<|end|>", "<|user|>", "<|assistant|>"]
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<s>",
        clean_up_tokenization_spaces=False,
    )


@cache
def real(folder: Path, name: str) -> PreTrainedTokenizerFast:
    """One of the seven real tokenizers, with its special tokens named."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizers" / name / "tokenizer.json"), **REAL[name]
    )
