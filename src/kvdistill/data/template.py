"""Prompt templates: a question as plain text, or as the user's turn of a chat template."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER_PROMPT = "The answer is:"
"""Default text between the chain of thought (or the latent slots) and the answer."""

_PROBE = "kvdistill-probe"
"""Placeholder for a user's text, to find out what a chat template puts around it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Texts around a question, and the tokens that open and close every example."""

    before: str
    """Text before the question."""
    after: str
    """Text between the question and the reply."""
    begin: tuple[int, ...]
    """The beginning-of-sequence token where the model expects one."""
    end: int
    """The token that closes the answer and stops generation."""


@dataclass(frozen=True, kw_only=True)
class Plain:
    """The question on a line of its own, then the chain of thought, the prompt and the answer.

    Source: https://arxiv.org/abs/2510.02312, section 3 (order of the parts); the line breaks are ours.
    """

    kind: Literal["plain"] = "plain"
    prompt: str = ANSWER_PROMPT
    """Text before the answer in both modes; its last token is the distillation token."""

    def frame(self, tokenizer: "PreTrainedTokenizerBase") -> Frame:
        """A line break after the question; the beginning-of-sequence token where the tokenizer adds one.

        Raises:
            ValueError: if the tokenizer has no end-of-sequence token.
        """
        bos = _id(tokenizer.bos_token_id)
        begin: tuple[int, ...] = ()
        if bos is not None and tokenizer("a")["input_ids"][:1] == [bos]:
            begin = (bos,)
        return Frame("", "\n", begin, _end_of_sequence(tokenizer))


@dataclass(frozen=True, kw_only=True)
class Chat:
    """The question in the user's turn of the tokenizer's chat template; everything after it is the
    assistant's.

    The beginning-of-sequence token is used where the template writes one. The answer is closed by the
    template's end-of-turn token where it has one, else by the end-of-sequence token.

    Source: ours.
    """

    kind: Literal["chat"] = "chat"
    prompt: str = ANSWER_PROMPT
    """Text before the answer in both modes; its last token is the distillation token."""

    def frame(self, tokenizer: "PreTrainedTokenizerBase") -> Frame:
        """The texts of the chat template around a user's question, up to the start of the reply.

        Raises:
            ValueError: if the tokenizer has no chat template or end token, or the template does not contain
                the user's text.
        """
        if not tokenizer.chat_template:
            raise ValueError(
                f"{name_of(tokenizer)} has no chat template. Choose the template 'plain', or set "
                "tokenizer.chat_template."
            )
        user = {"role": "user", "content": _PROBE}
        before, found, after = str(
            tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        ).rpartition(_PROBE)
        if not found:
            raise ValueError(
                f"{name_of(tokenizer)} has a chat template that drops the user's words. Choose the template "
                "'plain', or repair it."
            )
        # What follows the assistant's text is the end of turn; only a special token can stop generation.
        turns = [user, {"role": "assistant", "content": _PROBE}]
        closing = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(_PROBE)[2].strip()
        ids = tokenizer(closing, add_special_tokens=False)["input_ids"]
        bos, bos_id = str(tokenizer.bos_token), _id(tokenizer.bos_token_id)
        begin: tuple[int, ...] = ()
        if bos_id is not None and before.startswith(bos):
            before, begin = before.removeprefix(bos), (bos_id,)
        if ids and ids[0] in tokenizer.added_tokens_decoder:
            return Frame(before, after, begin, end=ids[0])
        return Frame(before, after, begin, _end_of_sequence(tokenizer))


Template = Plain | Chat


def default_template(tokenizer: "PreTrainedTokenizerBase") -> Template:
    """``Chat`` where the tokenizer has a chat template, else ``Plain``."""
    if tokenizer.chat_template:
        return Chat()
    return Plain()


def template_from(settings: Mapping[str, str]) -> Template:
    """The template of stored settings, as in a student's ``config.json``.

    Args:
        settings: ``kind`` (``plain`` or ``chat``), and ``prompt`` where it is not the default.

    Raises:
        ValueError: if ``kind`` is neither ``plain`` nor ``chat``, or a setting is unknown.
    """
    kinds = {"plain": Plain, "chat": Chat}
    if settings.get("kind") not in kinds or not settings.keys() <= {"kind", "prompt"}:
        raise ValueError(
            f"{dict(settings)} is no template. Give kind ('plain' or 'chat') and, if you like, prompt."
        )
    return kinds[settings["kind"]](prompt=settings.get("prompt", ANSWER_PROMPT))


def name_of(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The tokenizer's name, for messages."""
    return f"The tokenizer {tokenizer.name_or_path or type(tokenizer).__name__}"


def _id(value: object) -> int | None:
    if isinstance(value, int):
        return value
    return None


def _end_of_sequence(tokenizer: "PreTrainedTokenizerBase") -> int:
    eos = _id(tokenizer.eos_token_id)
    if eos is None:
        raise ValueError(
            f"{name_of(tokenizer)} has no end-of-sequence token, so answers would never end. Set "
            "tokenizer.eos_token to one of its tokens."
        )
    return eos
