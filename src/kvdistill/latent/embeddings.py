"""Rows of embedding and head: enough for every token that a text may hold, and none that differ between two
loads.
"""

from collections.abc import Collection

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def require_rows(
    backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, added: Collection[str]
) -> None:
    """Refuse a tokenizer with a token that a text may hold and the backbone has no embedding for.

    ``added`` are the tokens of our own. Special tokens that no text holds (padding, the place of an image)
    may lie beyond, too: their rows are never read.

    Raises:
        ValueError: naming the number of tokens and of embeddings.
    """
    ends, template = (tokenizer.bos_token, tokenizer.eos_token), str(tokenizer.chat_template or "")
    unread = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special and token.content not in template
    }
    unread = unread.difference(ends) | {str(tokenizer.pad_token)} | set(added)
    rows, known = (
        num_rows(backbone),
        {token: number for token, number in tokenizer.get_vocab().items() if token not in unread},
    )
    last = max(known, key=known.__getitem__)
    if known[last] >= rows:
        raise ValueError(
            f"The tokenizer has {known[last] + 1} tokens (the last is {last!r}), but "
            f"{type(backbone).__name__} has embeddings for {rows}: "
            "the others would be random. Choose the tokenizer that the model was trained with (leave "
            "--model.tokenizer out to take its "
            "own), or a model with as many embeddings."
        )


@torch.no_grad()
def resize_embeddings(backbone: PreTrainedModel, rows: int, started: Collection[int] = ()) -> None:
    """Bring the embedding and the head to at least ``rows`` rows.

    Rows in ``started`` begin as transformers begins new tokens, at random; the others repeat the last row, so
    that they are the same whenever the model is loaded.
    """
    before = num_rows(backbone)
    if rows <= before:
        return
    backbone.resize_token_embeddings(rows, mean_resizing=bool(started))
    for layer in (backbone.get_input_embeddings(), backbone.get_output_embeddings()):
        weight: Tensor = layer.weight  # pyright: ignore
        for row in set(range(before, rows)) - set(started):
            weight[row] = weight[before - 1]


def num_rows(backbone: PreTrainedModel) -> int:
    """How many tokens the backbone has embeddings for."""
    return backbone.get_input_embeddings().weight.shape[0]  # pyright: ignore
