"""Decoding: answers from transformers' generate, on the cache of the latent slots or behind a question."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import GenerationConfig

from kvdistill.capture.cache import captured_cache, prefill_cache
from kvdistill.latent.feedback import latent_inputs
from kvdistill.latent.layout import cot_delimiters, question_pieces
from kvdistill.latent.passes import PrefixCache, encode_latents
from kvdistill.text import Batch, Padded, ReaderBatch

if TYPE_CHECKING:
    from kvdistill.latent.reasoner import LatentReasoner

Reasoning = Literal["latent", "cot", "direct"]


@torch.no_grad()
def generate_ids(
    model: "LatentReasoner",
    batch: Batch,
    reasoning: Reasoning,
    max_new_tokens: int,
    edit: Callable[[PrefixCache], PrefixCache] = lambda past: past,
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
    edit: Callable[[PrefixCache], PrefixCache] = lambda past: past,
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
    if not batch.student_mode.question.mask[:, -1].all():
        raise ValueError(
            "Questions must be padded on the left to be answered: collate them with padding_side='left'."
        )
    settings.update(do_sample=False, use_cache=True)
    ids, mask = _read_before_answer(model, batch, reasoning)
    cache = None
    if reasoning == "latent":
        past = encode_latents(model, batch.student_mode)
        _require_no_gap(model, torch.cat((past.mask, mask), 1))
        past = edit(past)
        cache = as_cache(model, batch.student_mode, past)
        mask = torch.cat((past.mask, mask), 1)  # B P + S: cached, then to be read
        # generate() skips as many ids as are cached: their values do not matter.
        ids = torch.cat((torch.full_like(past.positions, model.special.latent), ids), 1)
    else:
        _require_no_gap(model, mask)
    output = model.backbone.generate(  # pyright: ignore[reportCallIssue]
        input_ids=ids, attention_mask=mask.long(), past_key_values=cache, generation_config=settings
    )
    return output, ids.shape[1]


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
