"""Decoding equals a slow one without a cache, in each reasoning mode."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

import pico
import pico_slow
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.decode import as_cache, generate_ids
from kvdistill.latent.feedback import latent_inputs
from kvdistill.latent.passes import PrefixCache, encode_latents
from kvdistill.latent.reasoner import LatentReasoner

STEPS = 6
NAMES = ["llama", "gpt2", "gemma3", "qwen3"]


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
    expected = [greedy(model, row, reasoning) for row in pico.cued()]
    together = generate_ids(model, pico.batch(pico.cued(), "left"), reasoning, STEPS)
    assert together.tolist() == [ids[: together.shape[1]] for ids in expected]
    for row, ids in zip(pico.cued(), expected, strict=True):
        alone = generate_ids(model, pico.batch((row,)), reasoning, STEPS)[0].tolist()
        assert alone == ids[: len(alone)]
        assert len(alone) == STEPS or alone[-1] == 2
    assert len({tuple(ids) for ids in expected}) > 1


@pytest.mark.parametrize("reasoning", ["latent", "cot", "direct"])
@pytest.mark.parametrize("name", NAMES)
def test_generation_equals_greedy_decoding_without_a_cache(name: str, reasoning: str) -> None:
    check(pico.spread_out(pico.reasoner(name, slots=4, passes=2)), reasoning)


@pytest.mark.parametrize(
    ("reasoning", "shape"), [("latent", (3, 0)), ("latent", (3, 3)), ("cot", (3, 1)), ("direct", (3, 1))]
)
def test_generation_with_delimiters(reasoning: str, shape: tuple[int, int]) -> None:
    check(
        pico.spread_out(pico.reasoner("llama", slots=shape[0], passes=shape[1], delimiters="both")), reasoning
    )


@pytest.mark.parametrize("who", ["answers", "config"])
def test_what_follows_the_end_is_padding(who: str) -> None:
    """The end token, of the model or of the batch's own answers, is the second that the first sample would
    write.
    """
    model = pico.spread_out(pico.reasoner("llama", slots=4, passes=2))
    before = generate_ids(model, pico.batch(pico.cued(), "left"), "latent", STEPS)
    end = int(before[0, 1])
    assert end not in (before[0, 0], 2)
    if who == "config":
        model.backbone.config.eos_token_id = end
    closed = tuple({**row, "answer": (5, end if who == "answers" else 2)} for row in pico.cued())
    after = generate_ids(model, pico.batch(closed, "left"), "latent", STEPS)
    assert after[0, :2].tolist() == before[0, :2].tolist()
    assert not after[0, 2:].any()


def test_questions_padded_on_the_right_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Questions must be padded on the left .* padding_side='left'\."):
        generate_ids(pico.reasoner(), pico.batch(pico.cued(), "right"), "direct", STEPS)


@pytest.mark.parametrize("name", NAMES)
def test_the_cache_holds_what_was_thought(name: str) -> None:
    """As thought, and as transformers' own cache over the slow student's inputs; windowed layers keep their
    last 7.
    """
    model, row = pico.reasoner(name, slots=4, passes=2), pico.cued()[0]
    with torch.no_grad():
        batch = pico.batch((row,))
        past = encode_latents(model, batch.student_mode)
        cache = as_cache(model, batch.student_mode, past)
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


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_blocks_are_cached_and_answered_on_as_they_are_trained(name: str) -> None:
    """The cache equals transformers' own over the slow student's inputs; greedy answers are its argmax."""
    model = pico.reasoner(name, slots=3, passes=4, layout="blocks", feedback="add")
    model = pico.spread_out(model)
    row = pico.cued()[0]
    batch = pico.batch((row,), "left")
    with torch.no_grad():
        past = encode_latents(model, batch.student_mode)
        embeds = pico_slow.thought(model, row)
        _, _, slow = pico_slow.plain(model, embeds)
        tail = model.embed(torch.tensor([[model.special.eot, *row["prompt"]]]))
        logits, _, _ = pico_slow.plain(model, torch.cat((embeds, tail), 1))
    for layer_id, layer in enumerate(as_cache(model, batch.student_mode, past).layers):
        torch.testing.assert_close(layer.keys, slow[layer_id][0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(latent_inputs(model, past.states), embeds[:, -3:], rtol=1e-4, atol=1e-4)
    answer = generate_ids(model, batch, "latent", 1)
    assert answer[0, 0] == logits[-1].argmax()


@pytest.mark.parametrize("reasoning", ["latent", "direct"])
def test_padding_inside_a_text_is_refused_where_a_sliding_window_would_count_it(reasoning: str) -> None:
    batch = pico.batch(pico.cued(), "left")
    prompt = pico.pad([row["prompt"] for row in pico.cued()], "left", extra=2)
    gap = replace(
        batch,
        student_mode=replace(batch.student_mode, prompt=prompt),
        teacher_mode=replace(batch.teacher_mode, prompt=prompt),
    )
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
    model = pico.spread_out(pico.reasoner("llama", slots=4, passes=2))
    same = tuple({**row, "question": row["question"][:3]} for row in pico.cued()[:2])
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
        answers.append(generate_ids(pico.spread_out(model), pico.batch(pico.cued(), "left"), "latent", STEPS))
    assert torch.equal(*answers)
