"""Given slots: the student's own latent cache gives its ordinary answers, and only visible slots count."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import pico
from kvdistill.capture.sequence import Sequence
from kvdistill.evaluation.log_probability import answer_sums, log_probabilities
from kvdistill.kv import ModelKV
from kvdistill.latent.decode import generate_ids
from kvdistill.latent.given_slots import answer_with_slots, cache_with_slots, rows_behind_slots
from kvdistill.latent.layout import tail_pieces
from kvdistill.latent.modes import label_rows
from kvdistill.latent.passes import encode_latents, forward_pass
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.text import Batch
from pico_word_students import lora_for, small, student

STEPS = 6
NAMES = ["llama", "llama_yarn", "qwen3", "mistral", "gemma3", "glm", "smollm3", "gpt2"]


def own_slots(model: LatentReasoner, batch: Batch) -> ModelKV:
    return model(batch).student.kv.detach()


def answers(model: LatentReasoner, batch: Batch, slots: ModelKV) -> tuple[list[list[int]], Tensor]:
    found = answer_with_slots(model, batch, slots, STEPS)
    return found.ids.tolist(), answer_sums(found.rows, len(batch))


def masked(slots: ModelKV, index: int, fill: float) -> ModelKV:
    """Slot ``index`` masked in the first sample, with ``fill`` as its contents."""
    layers = []
    for layer in slots.layers:
        keys, values, mask = layer.keys.clone(), layer.values.clone(), layer.mask.clone()
        keys[0, :, index], values[0, :, index], mask[0, :, index] = fill, fill, False
        layers.append(layer.replace(keys=keys, values=values, mask=mask))
    return slots.map(tuple(layers))


# The student's own latent cache.


@torch.no_grad()
def check_own(model: LatentReasoner) -> None:
    left = pico.batch(pico.cued(), "left")
    ordinary = generate_ids(model, left, "latent", STEPS).tolist()
    nats = log_probabilities(model, left, "latent")
    assert len({tuple(ids) for ids in ordinary}) > 1
    for batch in (left, pico.batch(pico.cued(), "right"), pico.batch(pico.cued(), "right", extra=2)):
        ids, found = answers(model, batch, own_slots(model, batch))
        assert ids == ordinary
        torch.testing.assert_close(found, nats, rtol=1e-5, atol=1e-5)
    # A batch of one: a sample that ends early is not padded to the others.
    for row, ids, value in zip(pico.cued(), ordinary, nats, strict=True):
        batch = pico.batch((row,))
        alone, found = answers(model, batch, own_slots(model, batch))
        assert alone[0] == ids[: len(alone[0])]
        torch.testing.assert_close(found, value[None], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_own_latent_cache_gives_the_ordinary_answers(name: str) -> None:
    check_own(pico.spread_out(pico.reasoner(name, slots=4, passes=2)))


@pytest.mark.parametrize("passes", [0, 3])
def test_with_delimiters_in_both_modes_too(passes: int) -> None:
    check_own(pico.spread_out(pico.reasoner("llama", slots=3, passes=passes, delimiters="both")))


def test_with_lora_too() -> None:
    check_own(student(small("llama"), lora=lora_for("llama"), delimiters="both"))


@torch.no_grad()
def test_a_backbone_that_fills_its_cache_by_itself_needs_no_cache_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = pico.spread_out(pico.reasoner("llama", slots=3, passes=1))
    batch = pico.batch(pico.cued(), "left")
    slots = own_slots(model, batch)
    before = answers(model, batch, slots)[0]
    monkeypatch.setattr(model, "_architecture", replace(model.architecture(), cache_source="prefill"))
    assert answers(model, batch, slots)[0] == before


@torch.no_grad()
def test_answers_that_ended_are_padded() -> None:
    model = pico.spread_out(pico.reasoner("llama", slots=4, passes=2))
    batch = pico.batch(pico.cued())
    end = answers(model, batch, own_slots(model, batch))[0][0][1]
    model.backbone.config.eos_token_id = end
    ids = answers(model, batch, own_slots(model, batch))[0]
    assert ids[0][1] == end and not any(ids[0][2:])
    assert ids == generate_ids(model, pico.batch(pico.cued(), "left"), "latent", STEPS).tolist()


# Other slots.


@torch.no_grad()
def test_constant_slots_change_what_is_answered() -> None:
    model = pico.spread_out(pico.reasoner("llama", slots=4, passes=2))
    batch = pico.batch(pico.cued())
    slots = own_slots(model, batch)
    ones = slots.map(
        tuple(
            layer.replace(keys=torch.ones_like(layer.keys), values=torch.ones_like(layer.values))
            for layer in slots.layers
        )
    )
    (ids, nats), (others, changed) = answers(model, batch, slots), answers(model, batch, ones)
    assert others != ids
    assert ((changed - nats).abs() > 1e-2).all()


@pytest.mark.parametrize("name", ["llama", "mistral"])
@pytest.mark.parametrize("index", [0, 1, 3])
@torch.no_grad()
def test_a_masked_slot_equals_one_that_is_left_out(name: str, index: int) -> None:
    model = pico.spread_out(pico.reasoner(name, slots=4, passes=2))
    batch = pico.batch(pico.cued()[:1])
    slots = own_slots(model, batch)
    past = cache_with_slots(model, batch.student_mode, slots)
    after = past.positions[:, -1] + 1
    # Without the column: the other slots and what follows them keep their positions.
    width = past.mask.shape[1]
    kept = [column for column in range(width) if column != width - 4 + index]
    joined = {i: (torch.cat(k, 2), torch.cat(v, 2)) for i, (k, v) in past.prefix.items()}
    past = replace(
        past,
        prefix={i: ([k[:, :, kept]], [v[:, :, kept]]) for i, (k, v) in joined.items()},
        mask=past.mask[:, kept],
        positions=past.positions[:, kept],
    )
    state = forward_pass(model, Sequence(tail_pieces(batch.student_mode, model.special), after), past)
    expected = answer_sums(label_rows(model, state, "student"), 1)
    found = [answers(model, batch, masked(slots, index, fill)) for fill in (0.0, 9.0, float("nan"))]
    for ids, nats in found:
        torch.testing.assert_close(nats, expected, rtol=1e-5, atol=1e-5)
        assert ids == found[0][0]
    if name == "llama":
        # The window of Mistral may end behind the slot.
        assert abs(float(answers(model, batch, slots)[1] - expected)) > 1e-4


@torch.no_grad()
def test_slots_and_what_follows_have_the_positions_of_student_mode_by_hand() -> None:
    """Question and cue of 3 and 2 tokens, ``<bot>``, then slots at 6 ... 9; 14 and 2 tokens, slots at 17."""
    model = pico.reasoner("llama", slots=4, passes=2)
    rows = ({**pico.cued()[0], "question": (5, 6, 7)}, {**pico.cued()[1], "question": tuple(range(5, 19))})
    for side in ("left", "right"):
        batch = pico.batch(rows, side)
        slots = masked(own_slots(model, batch), 3, 0.0)
        past = cache_with_slots(model, batch.student_mode, slots)
        assert past.positions[:, -4:].tolist() == [[6, 7, 8, 9], [17, 18, 19, 20]]
        assert past.mask[:, -4:].tolist() == [[True, True, True, False], [True] * 4]
        assert past.mask.sum(-1).tolist() == [3 + 2 + 1 + 3, 14 + 2 + 1 + 4]


@torch.no_grad()
def test_keys_are_rotated_as_the_student_rotates_its_own() -> None:
    model = pico.reasoner("llama_yarn", slots=4, passes=2)
    batch = pico.batch(pico.cued(), "left")
    past = cache_with_slots(model, batch.student_mode, own_slots(model, batch))
    own = encode_latents(model, batch.student_mode)
    for layer_id, (keys, values) in past.prefix.items():
        for found, wanted in zip((keys, values), own.prefix[layer_id], strict=True):
            expected = torch.cat(wanted, 2)[:, :, -4:]
            torch.testing.assert_close(found[-1], expected, rtol=1e-4, atol=1e-5)


# Refusals.


@torch.no_grad()
def test_slots_that_do_not_fit_are_refused() -> None:
    model = pico.reasoner("llama", slots=4, passes=2)
    batch = pico.batch(pico.cued())
    slots = own_slots(model, batch)
    rope = model.geometry().layers[0].rope
    rotated = slots.map(tuple(layer.replace(rope=rope) for layer in slots.layers))
    three = slots.map(tuple(layer.map_slots(lambda values: values[:, :, :3]) for layer in slots.layers))
    one_head = masked(slots, 1, 0.0)
    one_head.layers[2].mask[0, 1, 1] = True
    cases = [
        (rotated, r"given slots: keys of layer 0 of student mode are rotated"),
        (ModelKV(slots.layers[:2], (0, 1), "a teacher"), r"a teacher holds layers \(0, 1\).*\(0, 1, 2\)"),
        (three, r"\(2, 3, 8, 8\), but the student has \(2, 4, 8, 8\): compress the cache to 4 slots"),
        (one_head, r"Heads or layers of student mode have unlike masked slots"),
    ]
    for bad, message in cases:
        with pytest.raises(ValueError, match=message):
            answer_with_slots(model, batch, bad, STEPS)


# Gradients of the slots.


def answer_nats(model: LatentReasoner, batch: Batch, slots: ModelKV) -> Tensor:
    return answer_sums(rows_behind_slots(model, batch, slots), len(batch)).sum()


def leaves(slots: ModelKV) -> tuple[list[Tensor], ModelKV]:
    """Keys and values of every layer that need a gradient, and the slots with them."""
    layers, tensors = [], []
    for layer in slots.layers:
        keys, values = (each.detach().clone().requires_grad_() for each in (layer.keys, layer.values))
        tensors += [keys, values]
        layers.append(layer.replace(keys=keys, values=values))
    return tensors, slots.map(tuple(layers))


def test_the_answer_has_the_gradient_of_a_finite_difference() -> None:
    """Keys under the rotation, and values, in double precision; the student's weights get none."""
    model = student(small("llama")).double()
    batch = pico.batch(pico.cued(), "left")
    tensors, slots = leaves(own_slots(model, batch))
    torch.testing.assert_close(
        answer_nats(model, batch, slots), answers(model, batch, slots)[1].sum(), rtol=1e-9, atol=1e-9
    )
    gradients = torch.autograd.grad(answer_nats(model, batch, slots), tensors)
    assert all(parameter.grad is None for parameter in model.parameters())
    for tensor, gradient in zip(tensors, gradients, strict=True):
        place = gradient.abs().flatten().argmax()
        with torch.no_grad():
            found = []
            for change in (1e-3, -2e-3):
                tensor.view(-1)[place] += change
                found.append(float(answer_nats(model, batch, slots)))
            tensor.view(-1)[place] += 1e-3
        assert (found[0] - found[1]) / 2e-3 == pytest.approx(float(gradient.flatten()[place]), rel=1e-2)


def test_a_masked_slot_has_no_gradient() -> None:
    model = student(small("llama"))
    batch = pico.batch(pico.cued(), "right")
    tensors, slots = leaves(masked(own_slots(model, batch), 1, float("nan")))
    for gradient in torch.autograd.grad(answer_nats(model, batch, slots), tensors):
        assert gradient.isfinite().all()
        assert (gradient[0, :, 1] == 0).all()
        assert (gradient[1, :, 1] != 0).any()
