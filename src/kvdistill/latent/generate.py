"""Generation: encode the latent slots, then decode greedily with transformers' generate on their cache."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from kvdistill.capture.attention import evaluating
from kvdistill.capture.cache import captured_cache, prefill_cache
from kvdistill.latent.layout import cot_delimiters, question_pieces
from kvdistill.latent.modes import PrefixCache, encode_latents
from kvdistill.text import Batch, Padded

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
    settings = GenerationConfig(max_new_tokens=max_new_tokens, **_end_tokens(model, batch))
    output, start = _decode(model, batch, reasoning, settings, edit)
    return output[:, start:]


def _end_tokens(model: "LatentReasoner", batch: Batch) -> dict[str, Any]:
    """Ids that end an answer, and the padding id for answers that ended early."""
    closing = int(batch.answer.ids[0][batch.answer.mask[0]][-1])
    known = model.tokenizer if model.tokenizer is not None else model.backbone.config
    ends = [closing] if known.eos_token_id in (None, closing) else [closing, known.eos_token_id]
    return {"eos_token_id": ends, "pad_token_id": known.pad_token_id}


def _decode(
    model: "LatentReasoner",
    batch: Batch,
    reasoning: Reasoning,
    settings: GenerationConfig,
    edit: Callable[[PrefixCache], PrefixCache],
) -> tuple[Any, int]:
    """Output of the backbone's greedy generation, and the column of its first new token."""
    if not batch.question.mask[:, -1].all():
        raise ValueError(
            "Questions must be padded on the left to be answered: collate them with padding_side='left'."
        )
    settings.update(do_sample=False, use_cache=True)
    ids, mask = _read_before_answer(model, batch, reasoning)
    cache = None
    if reasoning == "latent":
        past = encode_latents(model, batch)
        _require_no_gap(model, torch.cat((past.mask, mask), 1))
        past = edit(past)
        cache = as_cache(model, batch, past)
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


def as_cache(model: "LatentReasoner", batch: Batch, past: PrefixCache) -> Any:
    """Generation cache over the question and the latent slots.

    Args:
        batch: The B questions that were encoded.
        past: Their prefix cache over P tokens and slots, keys rotated.

    Returns:
        A cache of transformers over P positions: as captured, or from a second prefill by the backbone where
        it caches something else than what its attention sees.
    """
    if model.architecture().cache_source == "captured":
        return captured_cache(model.backbone, past.prefix)
    question = torch.cat([piece.ids for piece in question_pieces(batch, model.special, 0)], 1)
    inputs = model.feedback(past.states)  # B M D
    if model.config.passes == 0:
        inputs = model.embed(torch.full(past.states.shape[:2], model.special.latent, device=question.device))
    embeds = model.embed(question)
    inputs = torch.cat((embeds, inputs.to(embeds.dtype)), 1)
    return prefill_cache(model.backbone, inputs, past.mask, past.positions)


def _read_before_answer(
    model: "LatentReasoner", batch: Batch, reasoning: Reasoning
) -> tuple[Int[Tensor, "B S"], Bool[Tensor, "B S"]]:
    """Tokens between the cache (or the beginning) and the first new token, with their mask."""
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


@torch.no_grad()
def generate(
    model: "LatentReasoner",
    input_ids: Int[Tensor, "B S"],
    attention_mask: Int[Tensor, "B S"] | Bool[Tensor, "B S"] | None = None,
    generation_config: GenerationConfig | None = None,
    **options: Any,
) -> Any:
    """Answers as token ids, with the arguments and return types of transformers' ``generate``.

    After ``input_ids`` the student reads ``<bot>``, its latent slots, ``<eot>`` and the answer prompt of its
    template; none of these is returned.

    Args:
        model: A student with a tokenizer.
        input_ids: (B, S), questions as the template formats them (a chat template up to the assistant's
            turn, or the question and a line break), padded on the left.
        attention_mask: (B, S), 1 at tokens; by default 0 at a padding token that is not the end token.
        generation_config: Options as an object; those in ``options`` take precedence.
        options: Any of ``OPTIONS``. ``max_new_tokens`` is 32 where neither it nor ``max_length`` is given.

    Returns:
        (B, S + A), ``input_ids`` and the answers. With ``return_dict_in_generate`` the ``sequences`` of a
        ``GenerateDecoderOnlyOutput``, whose scores, logits and hidden states are those of the answers.

    Raises:
        ValueError: if an option is not supported (sampling, beams, penalties), the student has no tokenizer,
            or a question is padded on the right.
    """
    batch = _batch_of_ids(model, input_ids, attention_mask)
    asked = _supported({**_settings_in(generation_config), **options})
    most = asked.pop("max_length", None)
    if "max_new_tokens" not in asked:
        asked["max_new_tokens"] = 32 if most is None else most - input_ids.shape[1]
    if asked["max_new_tokens"] < 1:
        raise ValueError(
            f"There is no room for an answer: the questions have {input_ids.shape[1]} tokens, max_length is "
            f"{most} and max_new_tokens {asked['max_new_tokens']}. Raise max_new_tokens."
        )
    settings = GenerationConfig(**{**_end_tokens(model, batch), **asked})
    output, start = _decode(model, batch, "latent", settings, lambda past: past)
    if isinstance(output, Tensor):
        return torch.cat((input_ids, output[:, start:]), 1)
    output.sequences = torch.cat((input_ids, output.sequences[:, start:]), 1)
    return output


OPTIONS = (
    "max_new_tokens",
    "max_length",
    "min_new_tokens",
    "eos_token_id",
    "pad_token_id",
    "return_dict_in_generate",
    "output_scores",
    "output_logits",
    "output_hidden_states",
)
"""Supported options of transformers' ``generate``."""
WITHOUT_EFFECT: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    "use_cache": True,
}
"""Options that are accepted with the value of greedy decoding only."""


def _settings_in(config: GenerationConfig | None) -> dict[str, Any]:
    """Options that a configuration sets, without ``bos_token_id``, which matters only without input."""
    settings = {} if config is None else config.to_diff_dict()
    return {
        name: value
        for name, value in settings.items()
        if name not in ("bos_token_id", "transformers_version")
    }


def _supported(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are set; refuses those that are not supported."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in OPTIONS and not (name in WITHOUT_EFFECT and value == WITHOUT_EFFECT[name]):
            raise ValueError(
                f"{name}={value!r} is not supported: a latent student decodes greedily. Leave it out; the "
                f"options are {', '.join(OPTIONS)}."
            )
    return {name: value for name, value in given.items() if name in OPTIONS}


def _batch_of_ids(
    model: "LatentReasoner",
    input_ids: Int[Tensor, "B S"],
    attention_mask: Int[Tensor, "B S"] | Bool[Tensor, "B S"] | None,
) -> Batch:
    """Batch of tokenized questions, with the answer prompt and the end token of the template."""
    from kvdistill.data.encode import encode_questions

    tokenizer = _tokenizer_of(model)
    pad = tokenizer.pad_token_id
    if attention_mask is None and isinstance(pad, int) and pad != tokenizer.eos_token_id:
        attention_mask = input_ids != pad
    mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    frame = encode_questions([""], tokenizer, model.config.template).to(input_ids.device)
    size = len(input_ids)
    empty = Padded(input_ids[:, :0], input_ids[:, :0].bool())

    def repeated(part: Padded) -> Padded:
        return Padded(part.ids.expand(size, -1), part.mask.expand(size, -1))

    return Batch(
        question=Padded(input_ids, mask),
        cue=empty,
        student_cue=empty,
        cot=empty,
        prompt=repeated(frame.prompt),
        answer=repeated(frame.answer),
        step_end=empty.mask,
        cot_id=torch.arange(size, device=input_ids.device),
        sample_ids=tuple(str(place) for place in range(size)),
    )


def _tokenizer_of(model: "LatentReasoner") -> PreTrainedTokenizerBase:
    if model.tokenizer is None:
        raise ValueError(
            "This student has no tokenizer: load it from a folder that holds one, or set model.tokenizer."
        )
    return model.tokenizer


def answer(
    model: "LatentReasoner", questions: list[str], batch_size: int = 32, max_new_tokens: int = 32
) -> list[str]:
    """Answers to questions as text, after latent reasoning.

    Args:
        model: A student with a tokenizer.
        questions: N texts.
        batch_size: Questions per forward pass.
        max_new_tokens: Upper limit of tokens per answer.

    Returns:
        N answers in the order of the questions, without special tokens.

    Raises:
        ValueError: if the student has no tokenizer, or a question exceeds its position limit.
    """
    from kvdistill.data.encode import encode_questions

    tokenizer = _tokenizer_of(model)
    answers: list[str] = []
    with evaluating(model):
        for start in range(0, len(questions), batch_size):
            batch = encode_questions(questions[start : start + batch_size], tokenizer, model.config.template)
            ids = generate_ids(model, batch.to(model.device), "latent", max_new_tokens)
            answers += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [text.strip() for text in answers]
