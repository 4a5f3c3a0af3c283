"""How a question is put to a model: as plain text, or as the user's turn of a conversation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER_PROMPT = "The answer is:"

_PROBE = "kvdistill-probe"


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands round a question, and the tokens that open and close every example."""

    before: str
    after: str
    begin: tuple[int, ...]
    """The beginning-of-sequence token where the model expects one."""
    end: int
    """The token that closes the answer, where generation stops."""


@dataclass(frozen=True, kw_only=True)
class Plain:
    """The question on a line of its own, then the chain of thought, the prompt and the answer.

    Source: https://arxiv.org/abs/2510.02312, section 3 (order of the parts); the line breaks are ours.
    """

    kind: Literal["plain"] = "plain"
    prompt: str = ANSWER_PROMPT
    """Stands before the answer in both modes; its last token is the distillation token."""

    def frame(self, tokenizer: "PreTrainedTokenizerBase") -> Frame:
        """A line break after the question; the beginning-of-sequence token where the tokenizer adds one
        itself.

        Raises:
            ValueError: if the tokenizer has no end-of-sequence token.
        """
        bos = _id(tokenizer.bos_token_id)
        adds_bos = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
        return Frame("", "\n", (bos,) if bos is not None and adds_bos else (), _end_of_sequence(tokenizer))


@dataclass(frozen=True, kw_only=True)
class Chat:
    """The question in the user's turn of the tokenizer's chat template; everything after it is the
    assistant's.

    The template alone decides on a beginning-of-sequence token, and its end of turn closes the answer where
    it has a token for that.

    Source: ours.
    """

    kind: Literal["chat"] = "chat"
    prompt: str = ANSWER_PROMPT
    """Stands before the answer in both modes; its last token is the distillation token."""

    def frame(self, tokenizer: "PreTrainedTokenizerBase") -> Frame:
        """The text that the chat template puts round a user's words, up to where the assistant begins.

        Raises:
            ValueError: if the tokenizer has no chat template or end token, or the template does not repeat
                the user's words.
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
        turns = [user, {"role": "assistant", "content": _PROBE}]
        closing = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(_PROBE)[2].strip()
        end = tokenizer(closing, add_special_tokens=False)["input_ids"][:1]
        bos, bos_id = str(tokenizer.bos_token), _id(tokenizer.bos_token_id)
        return Frame(
            before=before.removeprefix(bos) if bos_id is not None else before,
            after=after,
            begin=(bos_id,) if bos_id is not None and before.startswith(bos) else (),
            end=end[0] if end and end[0] in tokenizer.added_tokens_decoder else _end_of_sequence(tokenizer),
        )


Template = Plain | Chat


def default_template(tokenizer: "PreTrainedTokenizerBase") -> Template:
    """``Chat`` where the tokenizer has a chat template, else ``Plain``."""
    return Chat() if tokenizer.chat_template else Plain()


def template_from(settings: Mapping[str, str]) -> Template:
    """The template whose settings, ``kind`` among them, were kept as a dictionary.

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
    return value if isinstance(value, int) else None


def _end_of_sequence(tokenizer: "PreTrainedTokenizerBase") -> int:
    eos = _id(tokenizer.eos_token_id)
    if eos is None:
        raise ValueError(
            f"{name_of(tokenizer)} has no end-of-sequence token, so answers would never end. Set "
            "tokenizer.eos_token to one of its tokens."
        )
    return eos
