"""Rows of the embedding and the head: one for every token of a text, the same values after every load."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kvdistill.latent.config import SPECIAL_TOKENS


def add_latent_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Add ``<bot>``, ``<eot>`` and ``<latent>`` where the tokenizer lacks them.

    Args:
        tokenizer: Changed in place; its other special tokens stay.
    """
    tokenizer.add_special_tokens(
        {"extra_special_tokens": list(SPECIAL_TOKENS.values())}, replace_extra_special_tokens=False
    )


def require_rows(
    backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, added: Collection[str]
) -> None:
    """Refuse a tokenizer with tokens that the backbone has no embedding for.

    Special tokens that occur in no text (padding, image placeholders) may have ids beyond the embedding:
    their rows are never read.

    Args:
        backbone: The causal language model, before any row is added.
        tokenizer: Its tokenizer.
        added: Tokens that kvdistill adds, which get rows later.

    Raises:
        ValueError: naming the number of tokens and of embeddings.
    """
    # Templates write the begin and end tokens, so both count although they are special tokens.
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
    """Extend the embedding and the head to at least ``rows`` rows.

    Args:
        backbone: Changed in place.
        rows: Number of rows wanted; nothing happens where there are as many.
        started: Ids of the new rows that are initialized as transformers does it, at random. The other new
            rows repeat the last old row, so that they are the same whenever the model is loaded.
    """
    before = num_rows(backbone)
    if rows <= before:
        return
    # mean_resizing draws new rows around the mean of the old ones: useless where all are overwritten below.
    backbone.resize_token_embeddings(rows, mean_resizing=bool(started))
    for layer in (backbone.get_input_embeddings(), backbone.get_output_embeddings()):
        # Tied layers share one weight, which is then written twice with the same rows.
        weight: Tensor = layer.weight  # pyright: ignore
        for row in set(range(before, rows)) - set(started):
            weight[row] = weight[before - 1]


def num_rows(backbone: PreTrainedModel) -> int:
    """Number of rows of the backbone's token embedding.

    Args:
        backbone: A causal language model.

    Returns:
        Number of token ids with an embedding.
    """
    return backbone.get_input_embeddings().weight.shape[0]  # pyright: ignore


def scaled_logits(logits: Tensor, config: Any) -> Tensor:
    """Apply the logit scale and the soft-cap in the backbone's configuration.

    Args:
        logits: (..., C), as the output embeddings give them.
        config: The backbone's configuration of its text model.

    Returns:
        (..., C).
    """
    if (divisor := getattr(config, "logits_scaling", None)) is not None:  # Granite, MiniCPM3
        logits = logits / divisor
    if (factor := getattr(config, "logit_scale", None)) is not None:  # Cohere
        logits = logits * factor
    cap = getattr(config, "final_logit_softcapping", None)
    if cap is None:
        return logits
    return cap * torch.tanh(logits / cap)
