"""Decoding: answers from transformers' generate, on the cache of the latent slots or behind a question."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from kvdistill.capture.cache import captured_cache, prefill_cache
from kvdistill.latent.feedback import latent_inputs
from kvdistill.latent.layout import cot_delimiters, question_pieces
from kvdistill.latent.passes import PrefixCache, encode_latents, encode_to_answer
from kvdistill.text import Batch, Padded, ReaderBatch

if TYPE_CHECKING:
    from kvdistill.latent.reasoner import LatentReasoner

Reasoning = Literal["latent", "cot", "direct"]
Edit = Callable[[PrefixCache], PrefixCache]
"""Changes the cache of question and latent slots before the answer is decoded."""


@torch.no_grad()
def generate_ids(
    model: "LatentReasoner",
    batch: Batch,
    reasoning: Reasoning,
    max_new_tokens: int,
    edit: Edit | None = None,
) -> Int[Tensor, "B A"]:
    """Greedy answers to a batch of questions, in one reasoning mode.

    Args:
        batch: B questions, padded on the left; its answers only give the closing token.
        reasoning: ``latent`` reads the latent slots first, ``cot`` writes a chain of thought first.
        max_new_tokens: Upper limit of A.
        edit: Changes the cache of question and latent slots before the answer is decoded, for probes.

    Returns:
        (B, A), the new tokens, padded after the closing token or the tokenizer's end of sequence.

    Raises:
        ValueError: if a question is padded on the right, or a sliding window would count padding.
    """
    settings = GenerationConfig(max_new_tokens=max_new_tokens, **end_tokens(model, batch.student_mode))
    if reasoning == "latent" and edit is None and model.architecture().cache_source == "captured":
        return _answer_of_last_pass(model, batch, settings)
    output, start = decode(model, batch, reasoning, settings, edit)
    return output[:, start:]


def end_tokens(model: "LatentReasoner", reader: ReaderBatch) -> dict[str, Any]:
    """Ids that end an answer, and the padding id for answers that ended early.

    Args:
        model: The student; its tokenizer knows the end of sequence.
        reader: What either mode reads; the last token of its first answer closes answers.

    Returns:
        ``eos_token_id`` and ``pad_token_id``, as options of generation.
    """
    closing = int(reader.answer.ids[0][reader.answer.mask[0]][-1])
    known = model.tokenizer if model.tokenizer is not None else model.backbone.config
    ends = [closing] if known.eos_token_id in (None, closing) else [closing, known.eos_token_id]
    return {"eos_token_id": ends, "pad_token_id": known.pad_token_id}


def decode(
    model: "LatentReasoner",
    batch: Batch,
    reasoning: Reasoning,
    settings: GenerationConfig,
    edit: Edit | None = None,
) -> tuple[Any, int]:
    """Run the backbone's greedy generation behind a question, in one reasoning mode.

    Args:
        model: The student.
        batch: B questions, padded on the left.
        reasoning: As in ``generate_ids``.
        settings: Options of transformers' ``generate``; sampling is turned off.
        edit: As in ``generate_ids``.

    Returns:
        The output of ``generate``, and the column of its first new token.

    Raises:
        ValueError: as ``generate_ids`` does.
    """
    _require_left_padding(batch)
    settings.update(do_sample=False, use_cache=True)
    ids, mask = _read_before_answer(model, batch, reasoning)
    cache = None
    if reasoning == "latent":
        past = encode_latents(model, batch.student_mode)
        _require_no_gap(model, torch.cat((past.mask, mask), 1))
        past = past if edit is None else edit(past)
        cache = as_cache(model, batch.student_mode, past)
        ids, mask = _behind(model, past, ids, mask)
    else:
        _require_no_gap(model, mask)
    output = model.backbone.generate(  # pyright: ignore[reportCallIssue]
        input_ids=ids, attention_mask=mask.long(), past_key_values=cache, generation_config=settings
    )
    return output, ids.shape[1]


def _answer_of_last_pass(
    model: "LatentReasoner", batch: Batch, settings: GenerationConfig
) -> Int[Tensor, "B A"]:
    """Greedy answers whose first token the last latent pass predicts, as in training: one pass fewer."""
    _require_left_padding(batch)
    past, state = encode_to_answer(model, batch.student_mode)
    _require_no_gap(model, past.mask)
    first = model.head(state).argmax(-1)  # (B, C) -> (B,)
    assert settings.max_new_tokens is not None
    ends = torch.tensor(settings.eos_token_id, device=first.device)
    ended = torch.isin(first, ends)
    if settings.max_new_tokens == 1 or ended.all():
        return first[:, None]
    settings.update(do_sample=False, use_cache=True, max_new_tokens=settings.max_new_tokens - 1)
    ids, mask = _behind(model, past, first[:, None], torch.ones_like(first[:, None], dtype=torch.bool))
    output = model.backbone.generate(  # pyright: ignore[reportCallIssue]
        input_ids=ids,
        attention_mask=mask.long(),
        past_key_values=captured_cache(model.backbone, past.prefix),
        generation_config=settings,
        logits_processor=LogitsProcessorList([_Ended(ended, int(ends[0]))]),
    )
    answers = output[:, past.mask.shape[1] :]
    # What follows an end is padding; generate() does not know that the first token was one.
    answers[ended, 1:] = int(settings.pad_token_id or 0)
    return answers


def _behind(
    model: "LatentReasoner", past: PrefixCache, ids: Int[Tensor, "B S"], mask: Bool[Tensor, "B S"]
) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """Ids and mask of a cache of P tokens and S further ones, T = P + S, as ``generate`` takes them."""
    # generate() skips as many ids as are cached: their values do not matter.
    cached = torch.full_like(past.positions, model.special.latent)
    return torch.cat((cached, ids), 1), torch.cat((past.mask, mask), 1)


class _Ended(LogitsProcessor):
    """Makes the samples that have ended with their first token end again at once."""

    def __init__(self, ended: Bool[Tensor, " B"], end: int) -> None:
        self.ended, self.end = ended, end

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores[self.ended] = torch.finfo(scores.dtype).min
        scores[self.ended, self.end] = 0
        return scores


def _require_left_padding(batch: Batch) -> None:
    if not batch.student_mode.question.mask[:, -1].all():
        raise ValueError(
            "Questions must be padded on the left to be answered: collate them with padding_side='left'."
        )


def _require_no_gap(model: "LatentReasoner", mask: Bool[Tensor, "B S"]) -> None:
    """Refuse padding between tokens on models with sliding windows, since generate() counts columns there."""
    windowed = any(layer.shape.window is not None for layer in model.architecture().layers)
    if windowed and (mask[:, :-1] & ~mask[:, 1:]).any():
        raise ValueError(
            f"{type(model.backbone).__name__} attends in sliding windows, and cues or prompts of unlike "
            "lengths leave padding inside the "
            "texts of a batch, which generation would count as tokens: answer these questions one at a time "
            "(batch size 1)."
        )


def as_cache(model: "LatentReasoner", reader: ReaderBatch, past: PrefixCache) -> Any:
    """Generation cache over the question and the latent slots.

    Args:
        reader: The B questions that were encoded, as student mode reads them.
        past: Their prefix cache over P tokens and slots, keys rotated.

    Returns:
        A cache of transformers over P positions: as captured, or from a second prefill by the backbone where
        it caches something else than what its attention sees.
    """
    if model.architecture().cache_source == "captured":
        return captured_cache(model.backbone, past.prefix)
    question = torch.cat([piece.ids for piece in question_pieces(reader, model.special, 0)], 1)
    inputs = latent_inputs(model, past.states)  # B M D
    if model.config.passes == 0:
        inputs = model.embed(torch.full(past.states.shape[:2], model.special.latent, device=question.device))
    embeds = model.embed(question)
    inputs = torch.cat((embeds, inputs.to(embeds.dtype)), 1)
    return prefill_cache(model.backbone, inputs, past.mask, past.positions)


def _read_before_answer(
    model: "LatentReasoner", batch: Batch, reasoning: Reasoning
) -> tuple[Int[Tensor, "B S"], Bool[Tensor, "B S"]]:
    """Tokens between the cache (or the beginning) and the first new token, with their mask."""
    special, ones = model.special, torch.ones_like(batch.cot_id[:, None], dtype=torch.bool)
    bot, eot = Padded(ones.long() * special.bot, ones), Padded(ones.long() * special.eot, ones)
    both = cot_delimiters(model.config.delimiters, special) is not None
    if reasoning == "latent":  # the question is in the cache
        parts = [eot, batch.student_mode.prompt]
    else:
        reader = batch.teacher_mode
        parts = [reader.question, reader.cue]
        parts += [bot] if both else []
        if reasoning == "direct":
            parts += [eot, reader.prompt] if both else [reader.prompt]
    return torch.cat([part.ids for part in parts], 1), torch.cat([part.mask for part in parts], 1)
