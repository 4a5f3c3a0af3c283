"""Generation: ``generate`` with the arguments of transformers, and answers to questions as text."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from kvdistill.capture.attention import evaluating
from kvdistill.latent.decode import decode, end_tokens, generate_ids
from kvdistill.text import Batch, Padded

if TYPE_CHECKING:
    from kvdistill.latent.reasoner import LatentReasoner


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
    settings = GenerationConfig(**{**end_tokens(model, batch.student_mode), **asked})
    output, start = decode(model, batch, "latent", settings)
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
    from kvdistill.data.collate import encode_questions

    tokenizer = _tokenizer_of(model)
    pad = tokenizer.pad_token_id
    if attention_mask is None and isinstance(pad, int) and pad != tokenizer.eos_token_id:
        attention_mask = input_ids != pad
    mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    empty = encode_questions([""] * len(input_ids), tokenizer, model.config.template).to(input_ids.device)
    reader = replace(empty.student_mode, question=Padded(input_ids, mask))
    return replace(empty, student_mode=reader, teacher_mode=reader)


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
    from kvdistill.data.collate import encode_questions

    tokenizer = _tokenizer_of(model)
    answers: list[str] = []
    with evaluating(model):
        for start in range(0, len(questions), batch_size):
            batch = encode_questions(questions[start : start + batch_size], tokenizer, model.config.template)
            ids = generate_ids(model, batch.to(model.device), "latent", max_new_tokens)
            answers += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [text.strip() for text in answers]
