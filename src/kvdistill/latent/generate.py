"""Answers: latent slots first, then transformers' own generate on top of their cache."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import GenerationConfig

from kvdistill.capture.attention import evaluating
from kvdistill.capture.cache import captured_cache, prefill_cache
from kvdistill.latent.layout import cot_delimiters, question_pieces
from kvdistill.latent.modes import Past, think
from kvdistill.text import Batch

if TYPE_CHECKING:
    from kvdistill.latent.reasoner import LatentReasoner

Reasoning = Literal["latent", "cot", "direct"]


@torch.no_grad()
def generate_ids(
    model: "LatentReasoner",
    batch: Batch,
    reasoning: Reasoning,
    max_new_tokens: int,
    edit: Callable[[Past], Past] = lambda past: past,
) -> Int[Tensor, "B A"]:
    """Ids that follow the question: answers (``latent``, ``direct``) or chain of thought and answer
    (``cot``).

    Questions must be padded on the left, so that sliding windows count tokens and not padding. ``edit`` may
    change what the student has thought before it answers (probes do). Generation stops at the token that
    closes the batch's own answers (a chat's end of turn, say) and at the tokenizer's end of sequence; what
    follows is padding.

    Raises:
        ValueError: if a question is padded on the right, or padding stands between tokens that a sliding
            window counts.
    """
    if not batch.question.mask[:, -1].all():
        raise ValueError(
            "Questions must be padded on the left to be answered: collate them with padding_side='left'."
        )
    closing = int(batch.answer.ids[0][batch.answer.mask[0]][-1])
    known = model.tokenizer if model.tokenizer is not None else model.backbone.config
    ends = [closing] if known.eos_token_id in (None, closing) else [closing, known.eos_token_id]
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=ends,
        pad_token_id=known.pad_token_id,
        use_cache=True,
    )
    ids, mask = _read_before_answer(model, batch, reasoning)
    cache = None
    if reasoning == "latent":
        past = think(model, batch)
        _require_no_gap(model, torch.cat((past.mask, mask), 1))
        past = edit(past)
        cache = as_cache(model, batch, past)
        mask = torch.cat((past.mask, mask), 1)
        ids = torch.cat((torch.full_like(past.positions, model.special.latent), ids), 1)
    else:
        _require_no_gap(model, mask)
    output = model.backbone.generate(  # pyright: ignore[reportCallIssue]
        input_ids=ids, attention_mask=mask.long(), past_key_values=cache, generation_config=settings
    )
    return output[:, ids.shape[1] :]  # pyright: ignore[reportIndexIssue]


def _require_no_gap(model: "LatentReasoner", mask: Bool[Tensor, "B S"]) -> None:
    """transformers counts columns in a sliding window when it generates, padding between tokens included."""
    windowed = any(layer.shape.window is not None for layer in model.architecture().layers)
    if windowed and (mask[:, :-1] & ~mask[:, 1:]).any():
        raise ValueError(
            f"{type(model.backbone).__name__} attends in sliding windows, and cues or prompts of unlike "
            "lengths leave padding inside the "
            "texts of a batch, which generation would count as tokens: answer these questions one at a time "
            "(batch size 1)."
        )


def as_cache(model: "LatentReasoner", batch: Batch, past: Past) -> Any:
    """Question and latent slots as a cache that the backbone generates from.

    Where the backbone caches something else than what its attention sees, it reads question and latent inputs
    once more by itself.
    """
    if model.architecture().cache_source == "captured":
        return captured_cache(model.backbone, past.prefix)
    question = torch.cat([piece.ids for piece in question_pieces(batch, model.special, 0)], 1)
    inputs = model.feedback(past.states)
    if model.config.passes == 0:
        inputs = model.embed(torch.full(past.states.shape[:2], model.special.latent, device=question.device))
    embeds = model.embed(question)
    inputs = torch.cat((embeds, inputs.to(embeds.dtype)), 1)
    return prefill_cache(model.backbone, inputs, past.mask, past.positions)


def _read_before_answer(
    model: "LatentReasoner", batch: Batch, reasoning: Reasoning
) -> tuple[Int[Tensor, "B S"], Bool[Tensor, "B S"]]:
    """What the backbone still has to read before its first new token."""
    question, special = batch.question, model.special
    ones = torch.ones_like(question.mask[:, :1])
    bot, eot = ones.long() * special.bot, ones.long() * special.eot
    prompt = (batch.prompt.ids, batch.prompt.mask)
    both = cot_delimiters(model.config.delimiters, special) is not None
    if reasoning == "latent":
        parts = [(eot, ones), prompt]
    else:
        parts = [(question.ids, question.mask), (batch.cue.ids, batch.cue.mask)]
        parts += [(bot, ones)] if both else []
        parts += [] if reasoning == "cot" else [(eot, ones), prompt] if both else [prompt]
    ids, masks = zip(*parts, strict=True)
    return torch.cat(ids, 1), torch.cat(masks, 1)


def answer(
    model: "LatentReasoner", questions: list[str], batch_size: int = 32, max_new_tokens: int = 32
) -> list[str]:
    """Answers to questions in words, ``batch_size`` at a time, in the order of the questions.

    Raises:
        ValueError: if the student was saved without its tokenizer, or a question is longer than its positions
            reach.
    """
    from kvdistill.data.encode import encode_questions

    if model.tokenizer is None:
        raise ValueError(
            "This student has no tokenizer: load it from a folder that holds one, or set model.tokenizer."
        )
    answers: list[str] = []
    with evaluating(model):
        for start in range(0, len(questions), batch_size):
            batch = encode_questions(
                questions[start : start + batch_size], model.tokenizer, model.config.template
            )
            ids = generate_ids(model, batch.to(model.device), "latent", max_new_tokens)
            answers += model.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [text.strip() for text in answers]
