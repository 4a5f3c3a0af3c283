"""Answers against greedy decoding without any cache, one sample at a time."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

import pico
import pico_slow
from kvdistill.data.encode import encode_questions
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.generate import answer, as_cache, generate_ids
from kvdistill.latent.modes import PrefixCache, encode_latents
from kvdistill.latent.reasoner import LatentReasoner
from pico_tokenizer import word_level

STEPS = 6
NAMES = ["llama", "gpt2", "gemma3", "qwen3"]
WORDS = [f"w{number}" for number in range(70)]


def rows() -> tuple[dict[str, tuple[int, ...]], ...]:
    """Questions of unlike lengths, most longer than the sliding window of 8, with a cue for each reader."""
    return tuple({**row, "cue": (7,), "student_cue": (8, 9)} for row in pico.samples(3))


def read(model: LatentReasoner, row: dict[str, tuple[int, ...]], reasoning: str) -> Tensor:
    """Inputs of everything that stands before the first new token."""
    special, both = model.special, model.config.delimiters == "both"
    closed = [special.eot, *row["prompt"]]
    if reasoning == "latent":
        return torch.cat((pico_slow.thought(model, row), model.embed(torch.tensor([closed]))), 1)
    text = [*row["question"], *row["cue"], *([special.bot] if both else [])]
    text += [] if reasoning == "cot" else closed if both else row["prompt"]
    return model.embed(torch.tensor([text]))


def greedy(model: LatentReasoner, row: dict[str, tuple[int, ...]], reasoning: str) -> list[int]:
    """The likeliest token, again and again, the whole text recomputed for each; nothing after the end token 2
    but padding 0.
    """
    embeds, found = read(model, row, reasoning), []
    while len(found) < STEPS and 2 not in found:
        logits, _, _ = pico_slow.plain(model, embeds)
        found.append(int(logits[-1].argmax()))
        embeds = torch.cat((embeds, model.embed(torch.tensor([[found[-1]]]))), 1)
    return found + [0] * (STEPS - len(found))


@torch.no_grad()
def check(model: LatentReasoner, reasoning: str) -> None:
    expected = [greedy(model, row, reasoning) for row in rows()]
    together = generate_ids(model, pico.batch(rows(), "left"), reasoning, STEPS)
    assert together.tolist() == [ids[: together.shape[1]] for ids in expected]
    for row, ids in zip(rows(), expected, strict=True):
        alone = generate_ids(model, pico.batch((row,)), reasoning, STEPS)[0].tolist()
        assert alone == ids[: len(alone)]
        assert len(alone) == STEPS or alone[-1] == 2
    assert len({tuple(ids) for ids in expected}) > 1


@pytest.mark.parametrize("reasoning", ["latent", "cot", "direct"])
@pytest.mark.parametrize("name", NAMES)
def test_generation_equals_greedy_decoding_without_a_cache(name: str, reasoning: str) -> None:
    check(spread_out(pico.reasoner(name, slots=4, passes=2)), reasoning)


@pytest.mark.parametrize(
    ("reasoning", "shape"), [("latent", (3, 0)), ("latent", (3, 3)), ("cot", (3, 1)), ("direct", (3, 1))]
)
def test_generation_with_delimiters(reasoning: str, shape: tuple[int, int]) -> None:
    check(spread_out(pico.reasoner("llama", slots=shape[0], passes=shape[1], delimiters="both")), reasoning)


def spread_out(model: LatentReasoner) -> LatentReasoner:
    """Larger weights, so that answers depend on the text and not on its last token alone."""
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5.0)
    return model


@pytest.mark.parametrize("who", ["answers", "config"])
def test_what_follows_the_end_is_padding(who: str) -> None:
    """The end token, of the model or of the batch's own answers, is the second that the first sample would
    write.
    """
    model = spread_out(pico.reasoner("llama", slots=4, passes=2))
    before = generate_ids(model, pico.batch(rows(), "left"), "latent", STEPS)
    end = int(before[0, 1])
    assert end not in (before[0, 0], 2)
    if who == "config":
        model.backbone.config.eos_token_id = end
    closed = tuple({**row, "answer": (5, end if who == "answers" else 2)} for row in rows())
    after = generate_ids(model, pico.batch(closed, "left"), "latent", STEPS)
    assert after[0, :2].tolist() == before[0, :2].tolist()
    assert not after[0, 2:].any()


def test_questions_padded_on_the_right_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Questions must be padded on the left .* padding_side='left'\."):
        generate_ids(pico.reasoner(), pico.batch(rows(), "right"), "direct", STEPS)


@pytest.mark.parametrize("name", NAMES)
def test_the_cache_holds_what_was_thought(name: str) -> None:
    """As thought, and as transformers' own cache over the slow student's inputs; windowed layers keep their
    last 7.
    """
    model, row = pico.reasoner(name, slots=4, passes=2), rows()[0]
    with torch.no_grad():
        batch = pico.batch((row,))
        past = encode_latents(model, batch)
        cache = as_cache(model, batch, past)
        embeds = pico_slow.thought(model, row)
        _, _, slow = pico_slow.plain(model, embeds)
    length = past.mask.shape[1]
    assert length == len(row["question"]) + 2 + 1 + 4
    for layer_id, layer in enumerate(cache.layers):
        keys, values = (torch.cat(pieces, 2) for pieces in past.prefix[layer_id])
        kept = 7 if name == "gemma3" and layer_id != 1 else length
        assert layer.keys.shape[2] == kept < length + 1
        assert torch.equal(layer.keys, keys[:, :, -kept:])
        assert torch.equal(layer.values, values[:, :, -kept:])
        torch.testing.assert_close(layer.keys, slow[layer_id][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.values, slow[layer_id][1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.feedback(past.states), embeds[:, -4:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reasoning", ["latent", "direct"])
def test_padding_inside_a_text_is_refused_where_a_sliding_window_would_count_it(reasoning: str) -> None:
    batch = pico.batch(rows(), "left")
    prompt = pico.pad([row["prompt"] for row in rows()], "left", extra=2)
    gap = replace(batch, prompt=prompt)
    with pytest.raises(
        ValueError,
        match=r"MistralForCausalLM attends in sliding windows, and cues or prompts .* \(batch size 1\)\.",
    ):
        generate_ids(pico.reasoner("mistral", slots=4, passes=2), gap, reasoning, 2)  # pyright: ignore
    model = pico.reasoner("llama", slots=4, passes=2)
    found, usual = (generate_ids(model, given, reasoning, 4) for given in (gap, batch))  # pyright: ignore
    assert torch.equal(found, usual)


def test_an_edit_changes_what_is_answered_on() -> None:
    """Two questions of one length that swap their thoughts swap their answers."""
    model = spread_out(pico.reasoner("llama", slots=4, passes=2))
    same = tuple({**row, "question": row["question"][:3]} for row in rows()[:2])
    batch = pico.batch(same, "left")

    def swap(past: PrefixCache) -> PrefixCache:
        prefix = {
            i: ([key.flip(0) for key in keys], [value.flip(0) for value in values])
            for i, (keys, values) in past.prefix.items()
        }
        return replace(past, prefix=prefix)

    usual = generate_ids(model, batch, "latent", STEPS)
    swapped = generate_ids(model, batch, "latent", STEPS, edit=swap)
    assert torch.equal(swapped, usual.flip(0))
    assert not torch.equal(swapped, usual)


def test_settings_of_the_hub_do_not_change_answers() -> None:
    """A model folder may ask for penalties and sampling; answers are greedy all the same."""
    answers = []
    for settings in (
        {},
        {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "suppress_tokens": list(range(3, 40))},
    ):
        backbone = pico.backbone("llama")
        backbone.generation_config = GenerationConfig(**settings)
        model = LatentReasoner(
            LatentConfig(backbone=backbone.config, special=dict(pico.SPECIAL), slots=4, passes=2), backbone
        ).eval()
        answers.append(generate_ids(spread_out(model), pico.batch(rows(), "left"), "latent", STEPS))
    assert torch.equal(*answers)


def student(name: str = "llama") -> LatentReasoner:
    config = pico.CONFIGS[name]()
    config.vocab_size = len(word_level(WORDS))
    backbone = pico.from_config(config)
    return spread_out(
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
    assert not batch.student_cue.ids.numel()
    return {"input_ids": batch.question.ids, "attention_mask": batch.question.mask.long()}


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
