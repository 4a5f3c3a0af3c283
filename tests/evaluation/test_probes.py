"""Probes on a student whose answers can only come out of its slots, and against slow recomputations."""

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

import pico
import pico_trained
from kvdistill.capture.attention import Prefix
from kvdistill.evaluation.evaluate import Evaluator, left_padded
from kvdistill.evaluation.probes import cut, probe, result_of, swapped, zeroed
from kvdistill.latent.passes import PrefixCache, encode_latents
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.probes import ProbesRecord
from kvdistill.text import Encoded

ASK = Evaluator(batch_size=36, max_new_tokens=4, timed=0)


def pieces(prefix: Prefix, layer_id: int) -> tuple[Tensor, Tensor]:
    keys, values = prefix[layer_id]
    return torch.cat(keys, 2), torch.cat(values, 2)


def thought(model: LatentReasoner, samples: list[Encoded]) -> PrefixCache:
    with torch.no_grad():
        return encode_latents(model, left_padded(model, samples).student_mode)


# Zeroed.


def test_a_student_that_reasons_in_its_slots_is_destroyed_without_them(
    model: LatentReasoner, samples: tuple[Encoded, ...]
) -> None:
    assert ASK.accuracy(model, samples, "latent") == 1.0
    said = ASK.answers(model, samples, "latent", partial(zeroed, slots=2))
    # Nothing of the question is left, so that every question gets the same answer, which is right for one
    # name of six.
    assert len(set(said)) == 1
    assert ASK.accuracy(model, samples, "latent", partial(zeroed, slots=2)) == 1 / 6


def test_zeroed_touches_the_slots_alone(model: LatentReasoner, samples: tuple[Encoded, ...]) -> None:
    past = thought(model, list(samples[:3]))
    without = zeroed(past, 2)
    for layer_id in past.prefix:
        for before, after in zip(
            pieces(past.prefix, layer_id), pieces(without.prefix, layer_id), strict=True
        ):
            assert torch.equal(before[:, :, :-2], after[:, :, :-2])
            assert before[:, :, -2:].any()
            assert not after[:, :, -2:].any()
    assert torch.equal(without.mask, past.mask)


# Swapped.


def test_swapped_slots_answer_the_question_before(
    model: LatentReasoner, samples: tuple[Encoded, ...]
) -> None:
    said = ASK.answers(model, samples, "latent", partial(swapped, slots=2, geometry=model.geometry()))
    own = [sample.example.answer for sample in samples]
    assert said == own[-1:] + own[:-1]


@pytest.mark.parametrize("name", ["llama", "llama_yarn", "qwen3", "gpt_neox", "glm", "gemma2", "gpt2", "opt"])
def test_a_swap_between_two_copies_of_a_question_changes_nothing(name: str) -> None:
    model = pico.reasoner(name, slots=4, passes=2)
    row = pico.samples(3)[1]
    with torch.no_grad():
        past = encode_latents(model, pico.batch((row, row), "left").student_mode)
    other = swapped(past, 4, model.geometry())
    for layer_id in past.prefix:
        for before, after in zip(pieces(past.prefix, layer_id), pieces(other.prefix, layer_id), strict=True):
            torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "llama_yarn", "qwen3", "gpt_neox", "glm", "phi3"])
def test_moved_keys_equal_keys_computed_at_the_new_positions(name: str) -> None:
    # Without passes, the first layer reads the same <latent> embeddings for every question: only the
    # positions tell its keys apart.
    model = pico.reasoner(name, slots=3, passes=0)
    with torch.no_grad():
        past = encode_latents(model, pico.batch(pico.samples(4), "left").student_mode)
    assert len(set(past.positions[:, -1].tolist())) > 1
    own = pieces(past.prefix, 0)[0]
    moved = pieces(swapped(past, 3, model.geometry()).prefix, 0)[0]
    torch.testing.assert_close(moved, own, rtol=1e-4, atol=1e-5)
    assert (own[:, :, -3:].roll(1, 0) - own[:, :, -3:]).abs().max() > 1e-2


def test_every_layer_and_only_the_slots_move_to_the_next_question(
    model: LatentReasoner, samples: tuple[Encoded, ...]
) -> None:
    past = thought(model, [samples[0], samples[3], samples[6]])  # equally long, so that nothing has to turn
    other = swapped(past, 2, model.geometry())
    for layer_id in past.prefix:
        for before, after in zip(pieces(past.prefix, layer_id), pieces(other.prefix, layer_id), strict=True):
            assert torch.equal(before[:, :, :-2], after[:, :, :-2])
            torch.testing.assert_close(after[:, :, -2:], before[[2, 0, 1], :, -2:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 7, 36])
def test_no_question_is_swapped_with_itself(
    model: LatentReasoner, samples: tuple[Encoded, ...], batch_size: int
) -> None:
    # One question for each name, so that no neighbour has the same answer; of 5 questions, batches of 2 and 4
    # would leave one alone.
    asked = [sample for sample in samples if sample.example.answer == sample.example.steps[0]][:5]
    assert len({sample.example.answer for sample in asked}) == 5
    record = probe(model, asked, replace(ASK, batch_size=batch_size))
    assert record.swapped == 0.0


# Cut.


def test_cutting_nothing_changes_nothing_and_cutting_all_destroys(
    model: LatentReasoner, samples: tuple[Encoded, ...]
) -> None:
    past = thought(model, list(samples[:3]))
    assert torch.equal(cut(past, 2, 2).mask, past.mask)
    assert cut(past, 2, 1).mask[:, -2:].tolist() == [[True, False]] * 3
    assert cut(past, 2, 0).mask[:, -2:].tolist() == [[False, False]] * 3
    assert past.mask[:, -2:].all()
    assert ASK.accuracy(model, samples, "latent", partial(cut, slots=2, keep=2)) == 1.0
    assert ASK.accuracy(model, samples, "latent", partial(cut, slots=2, keep=0)) <= 0.5


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_cut_sequential_student_is_the_student_with_fewer_slots(keep: int) -> None:
    answers = []
    for slots in (4, keep):
        model = pico_trained.wild(slots=slots, passes=slots)
        model.backbone.config.sliding_window = None
        samples = pico_trained.samples(model)
        edit = partial(cut, slots=4, keep=keep) if slots == 4 else lambda past: past
        answers.append(ASK.answers(model, samples, "latent", edit))
    assert answers[0] == answers[1]
    assert len(set(answers[0])) > 1


# What the slots say.


def slow_words(model: LatentReasoner, sample: Encoded) -> list[str]:
    """What each slot of a sequential student is made of, as a word, by plain calls of transformers' model
    from the first token on.
    """
    embeds = model.embed(torch.tensor([[*sample.student_mode.question.ids, model.special.bot]]))
    words = []
    for _ in range(model.config.slots):
        before = model.body(inputs_embeds=embeds, use_cache=False).last_hidden_state[:, -1:]
        embeds = torch.cat((embeds, model.feedback(before)), 1)
        words.append(model.tokenizer.decode(model.backbone.lm_head(before[:, 0]).argmax(-1)).strip())
    return words


def test_top_words_and_step_match_equal_a_slow_decode() -> None:
    model = pico_trained.wild()
    asked = list(pico_trained.samples(model)[:10])
    with torch.no_grad():
        words = [slow_words(model, sample) for sample in asked]
    assert all(len({said[slot] for said in words}) > 1 for slot in range(2))
    # Half of the questions get the steps that their slots say, and two of those only the first of them.
    for index, said in enumerate(words[:5]):
        steps = tuple(f"Nobody hands {word} ." for word in said[: 1 if index < 2 else 2])
        asked[index] = replace(asked[index], example=replace(asked[index].example, steps=steps))
    for index in range(5, 10):
        asked[index] = replace(
            asked[index], example=replace(asked[index].example, steps=("Nobody", "Nobody", "Nobody"))
        )
    record = probe(model, asked, replace(ASK, batch_size=3), words=2)
    for slot, top in enumerate(record.top_words):
        counts = Counter(said[slot] for said in words)
        assert top == sorted(counts, key=lambda word, counts=counts: (-counts[word], word))[:2]
    # Slot 1: up to 5 of 10. Slot 2: up to 3 of the 8 questions that have a second step. Punctuation is no
    # result.
    hits = [
        sum(result_of(f"Nobody hands {said[slot]} .") == said[slot] for said in words[first:5])
        for slot, first in ((0, 0), (1, 2))
    ]
    assert min(hits) > 0
    assert record.step_match == [hits[0] / 10, hits[1] / 8]


def test_slots_without_a_step_are_left_out(model: LatentReasoner, samples: tuple[Encoded, ...]) -> None:
    asked = [
        replace(sample, example=replace(sample.example, steps=sample.example.steps[:1]))
        for sample in samples[:4]
    ]
    record = probe(model, asked, ASK)
    assert len(record.step_match) == 1
    assert len(record.top_words) == 2


@pytest.mark.parametrize(
    ("step", "result"),
    [
        ("Bob", "Bob"),
        ("Ann hands Bob .", "Bob"),
        ("<<3*4=12>>", "12"),
        ("3 + 4 = 7.", "7"),
        ("so x is 1.5", "1.5"),
        ("...", ""),
        ("", ""),
    ],
)
def test_the_result_of_a_step_by_hand(step: str, result: str) -> None:
    assert result_of(step) == result


# The record.


def test_the_record_holds_every_probe(model: LatentReasoner, samples: tuple[Encoded, ...]) -> None:
    record = probe(model, samples, ASK, words=6)
    assert record == ProbesRecord(
        zeroed=1 / 6,
        swapped=30 / 36,
        fewer={
            keep: ASK.accuracy(model, samples, "latent", partial(cut, slots=2, keep=keep)) for keep in (0, 1)
        },
        top_words=record.top_words,
        step_match=record.step_match,
    )
    # Each slot is made of the state that says its step.
    assert [sorted(words) for words in record.top_words] == [sorted(pico_trained.NAMES)] * 2
    assert record.step_match == [1.0, 1.0]


def test_a_single_question_is_refused_in_words(model: LatentReasoner, samples: tuple[Encoded, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"Swapping latents between questions needs at least two questions\."
    ):
        probe(model, samples[:1], ASK)


def test_a_backbone_that_fills_its_cache_by_itself_is_refused(
    model: LatentReasoner, samples: tuple[Encoded, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed keys and values would not reach its answers."""
    architecture = replace(model.architecture(), cache_source="prefill")
    monkeypatch.setattr(model, "_architecture", architecture)
    with pytest.raises(ValueError, match=r"cannot be zeroed or swapped there: evaluate it without probes\."):
        probe(model, samples, ASK)
