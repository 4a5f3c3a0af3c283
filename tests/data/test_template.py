from pathlib import Path

import pytest

import pico_tokenizer
from kvdistill.data.template import Chat, Plain, default_template, template_from

TEXTS = ["How many apples has Ann? The answer is: 72", "user assistant"]


def chatty() -> pico_tokenizer.PreTrainedTokenizerFast:
    tokenizer = pico_tokenizer.byte_bpe(TEXTS)
    tokenizer.chat_template = pico_tokenizer.CHAT_TEMPLATE
    return tokenizer


def test_plain_by_hand() -> None:
    frame = Plain().frame(pico_tokenizer.word_level())
    assert (frame.before, frame.after, frame.begin, frame.end) == ("", "\n", (), 1)


def test_chat_by_hand() -> None:
    """The template writes ``<s>`` (id 2) and closes turns with ``<|end|>`` (id 3)."""
    frame = Chat().frame(chatty())
    assert (frame.before, frame.after, frame.begin, frame.end) == (
        "<|user|>",
        "<|end|>\n<|assistant|>",
        (2,),
        3,
    )


def test_a_turn_without_closing_token_ends_with_end_of_sequence() -> None:
    tokenizer = chatty()
    tokenizer.chat_template = "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}"
    frame = Chat().frame(tokenizer)
    assert (frame.before, frame.after, frame.begin, frame.end) == ("user: ", "\n", (), 1)


def test_chat_is_the_default_where_there_is_a_template() -> None:
    assert default_template(chatty()) == Chat()
    assert default_template(pico_tokenizer.word_level()) == Plain()


@pytest.mark.parametrize("template", [Plain(prompt="So:"), Chat()])
def test_settings_make_the_same_template_again(template: Plain | Chat) -> None:
    assert template_from({"kind": template.kind, "prompt": template.prompt}) == template


@pytest.mark.parametrize("settings", [{}, {"kind": "plane"}, {"kind": "plain", "promt": "So:"}])
def test_unknown_settings_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"is no template. Give kind \('plain' or 'chat'\)"):
        template_from(settings)


def test_what_a_tokenizer_lacks_is_said_in_words() -> None:
    bare = pico_tokenizer.byte_bpe(TEXTS)
    with pytest.raises(
        ValueError,
        match=r"The tokenizer \w+ has no chat template. Choose the template 'plain', or set tokenizer",
    ):
        Chat().frame(bare)
    bare.chat_template = "{% for turn in messages %}{{ turn.role }}{% endfor %}"
    with pytest.raises(
        ValueError, match=r"has a chat template that drops the user's words. Choose the template 'plain'"
    ):
        Chat().frame(bare)
    bare.eos_token = None
    with pytest.raises(
        ValueError, match=r"has no end-of-sequence token, so answers would never end. Set tokenizer.eos_token"
    ):
        Plain().frame(bare)


@pytest.mark.parametrize("name", pico_tokenizer.REAL)
def test_only_tokenizers_that_add_it_open_with_their_first_token(shared_data: Path, name: str) -> None:
    tokenizer = pico_tokenizer.real(shared_data, name)
    expected = (tokenizer.bos_token_id,) if name in pico_tokenizer.ADD_BOS else ()
    assert Plain().frame(tokenizer).begin == expected
