"""Rows of embedding and head: which tokens may add some, and what stands in them."""

import pytest
import torch

import pico
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.embeddings import num_rows, resize_embeddings
from kvdistill.latent.reasoner import LatentReasoner
from pico_tokenizer import word_level

WORDS = [f"w{number}" for number in range(61)]
"""With three special tokens as many as the pico vocabulary, 64."""


def build(words: list[str], special: list[str], name: str = "llama", **tokens: str) -> LatentReasoner:
    """A LoRA student whose tokenizer has further special tokens."""
    tokenizer = word_level(words)
    tokenizer.add_special_tokens({"extra_special_tokens": special})
    for token, text in tokens.items():
        setattr(tokenizer, token, text)
    return LatentReasoner.build(
        pico.backbone(name),
        tokenizer,
        LatentConfig(slots=3, passes=1, lora={"r": 2, "target_modules": "all-linear"}),
    )


@pytest.mark.parametrize("name", ["llama", "llama_tied"])
def test_padding_and_the_place_of_an_image_may_lie_beyond(name: str) -> None:
    """64 tokens with rows, two without, then the latent ones; what nobody reads repeats the last row and is
    drawn by nobody.
    """
    model = build(WORDS, ["<pad2>", "<image>"], name, pad_token="<pad2>")
    assert (num_rows(model.backbone), list(model.special)) == (69, [66, 67, 68])
    table, last = (
        model.embed(torch.arange(69)[None])[0],
        pico.backbone(name).get_input_embeddings().weight[63],
    )
    assert torch.equal(table[64:66], last.expand(2, -1))
    assert not torch.isclose(table[66:], last).all(-1).any()


@pytest.mark.parametrize(
    ("words", "special", "tokens", "last"),
    [
        ([*WORDS, "Ann"], [], {}, "Ann"),
        (WORDS, ["<end>"], {"eos_token": "<end>"}, "<end>"),
        (WORDS, ["<turn>"], {"chat_template": "<turn>"}, "<turn>"),
    ],
    ids=["a word", "the end of an answer", "a turn of the chat"],
)
def test_tokens_that_a_text_holds_may_not(
    words: list[str], special: list[str], tokens: dict[str, str], last: str
) -> None:
    with pytest.raises(
        ValueError,
        match=rf"tokenizer has 65 tokens \(the last is '{last}'\), but LlamaForCausalLM has embeddings for "
        r"64: the",
    ):
        build(words, special, **tokens)


def test_rows_that_nobody_starts_are_the_same_each_time() -> None:
    models = [pico.backbone("llama") for _ in range(2)]
    for model in models:
        resize_embeddings(model, 68)
    one, other = (torch.cat((model.get_input_embeddings().weight, model.lm_head.weight)) for model in models)
    assert torch.equal(one, other)
    resize_embeddings(models[0], 60)
    assert num_rows(models[0]) == 68
