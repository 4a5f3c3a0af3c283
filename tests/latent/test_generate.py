"""Answers to token ids and to texts, with the arguments of transformers."""

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

import pico
from kvdistill.data.collate import encode_questions
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.decode import generate_ids
from kvdistill.latent.generate import answer
from kvdistill.latent.reasoner import LatentReasoner
from pico_tokenizer import word_level

STEPS = 6
WORDS = [f"w{number}" for number in range(70)]


def student(name: str = "llama") -> LatentReasoner:
    config = pico.CONFIGS[name]()
    config.vocab_size = len(word_level(WORDS))
    backbone = pico.from_config(config)
    return pico.spread_out(
        LatentReasoner.build(backbone, word_level(WORDS), LatentConfig(slots=3, passes=2, template=TEMPLATE))
    )


TEMPLATE = {"kind": "plain", "prompt": "w1 w2"}
QUESTIONS = ["w5 w6", "w7 w8 w9 w10 w11 w12", "w13"]


def test_questions_in_words() -> None:
    """In the order of the questions, whatever the batch size; the mode that the model was in comes back."""
    model = student().train()
    answers = model.answer(QUESTIONS, batch_size=2, max_new_tokens=STEPS)
    assert model.training
    model.eval()
    ids = generate_ids(model, encode_questions(QUESTIONS, model.tokenizer, TEMPLATE), "latent", STEPS)
    assert answers == [text.strip() for text in model.tokenizer.batch_decode(ids, skip_special_tokens=True)]
    assert answers == answer(model, QUESTIONS, batch_size=1, max_new_tokens=STEPS)
    assert len(set(answers)) > 1


def test_no_tokenizer_no_words() -> None:
    with pytest.raises(
        ValueError,
        match=r"This student has no tokenizer: load it from a folder that holds one, or set "
        r"model\.tokenizer\.",
    ):
        pico.reasoner().answer(["w1"])


def tokens_of(model: LatentReasoner, questions: list[str]) -> dict[str, Tensor]:
    """The question tokens that ``answer`` feeds, as a tokenizer returns them."""
    batch = encode_questions(questions, model.tokenizer, TEMPLATE)  # pyright: ignore[reportArgumentType]
    assert not batch.student_mode.cue.ids.numel()
    return {
        "input_ids": batch.student_mode.question.ids,
        "attention_mask": batch.student_mode.question.mask.long(),
    }


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3"])
def test_generate_answers_tokens_as_answer_answers_text(name: str) -> None:
    """Padded on the left, one at a time, and with the mask read off the padding."""
    model = student(name)
    model.eval()
    given = tokens_of(model, QUESTIONS)
    start = given["input_ids"].shape[1]
    found = model.generate(**given, max_new_tokens=STEPS)
    assert found.dtype == torch.long
    assert torch.equal(found[:, :start], given["input_ids"])
    texts = model.tokenizer.batch_decode(found[:, start:], skip_special_tokens=True)
    assert [text.strip() for text in texts] == model.answer(QUESTIONS, max_new_tokens=STEPS)
    assert torch.equal(model.generate(given["input_ids"], max_new_tokens=STEPS), found)
    for row, question in zip(found, QUESTIONS, strict=True):
        alone = tokens_of(model, [question])
        new = model.generate(**alone, max_new_tokens=STEPS)[0, alone["input_ids"].shape[1] :]
        assert row[start : start + len(new)].tolist() == new.tolist()
    assert len(set(texts)) > 1


def test_generate_returns_scores_beside_the_sequences() -> None:
    model, asked = student(), {"max_new_tokens": 3, "return_dict_in_generate": True, "output_logits": True}
    given = tokens_of(model, QUESTIONS)
    found = model.generate(**given, **asked, min_new_tokens=3)
    assert type(found).__name__ == "GenerateDecoderOnlyOutput"
    assert torch.equal(found.sequences, model.generate(**given, max_new_tokens=3, min_new_tokens=3))
    assert len(found.logits) == 3
    assert found.sequences[:, -3].tolist() == found.logits[0].argmax(-1).tolist()


def test_lengths_and_ends_of_generate() -> None:
    model = student()
    given = tokens_of(model, QUESTIONS)
    start = given["input_ids"].shape[1]
    usual = model.generate(**given, max_new_tokens=STEPS, min_new_tokens=STEPS)
    assert usual.shape[1] == start + STEPS
    assert torch.equal(model.generate(**given, max_length=start + 2), usual[:, : start + 2])
    config = GenerationConfig(max_new_tokens=2, do_sample=False, bos_token_id=1)
    assert torch.equal(model.generate(**given, generation_config=config), usual[:, : start + 2])
    assert model.generate(**given, generation_config=config, max_new_tokens=1).shape[1] == start + 1
    end = int(usual[0, start])
    ended = model.generate(**given, max_new_tokens=STEPS, eos_token_id=end, pad_token_id=3)
    assert ended[0, start:].tolist() == [end] + [3] * (ended.shape[1] - start - 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do_sample": True}, r"do_sample=True is not supported: a latent student decodes greedily\."),
        ({"num_beams": 4}, r"num_beams=4 is not supported.* the options are max_new_tokens, max_length"),
        ({"generation_config": GenerationConfig(repetition_penalty=1.2)}, r"repetition_penalty=1\.2 is not"),
        ({"streamer": object()}, r"streamer=<object object at .*> is not supported"),
        (
            {"max_length": 2},
            r"no room for an answer: the questions have \d+ tokens, max_length is 2 and .*-\d",
        ),
    ],
)
def test_options_that_generate_refuses(options: dict[str, object], message: str) -> None:
    model = student()
    with pytest.raises(ValueError, match=message):
        model.generate(**tokens_of(model, QUESTIONS), **options)


def test_generate_needs_left_padding_and_a_tokenizer() -> None:
    model = student()
    given = tokens_of(model, QUESTIONS)
    with pytest.raises(ValueError, match="Questions must be padded on the left"):
        model.generate(**{name: value.flip(1) for name, value in given.items()})
    model.tokenizer = None
    with pytest.raises(ValueError, match="This student has no tokenizer"):
        model.generate(**given)
