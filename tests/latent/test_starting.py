"""The starting student: its question vectors stay while the student is trained; little is copied."""

import pytest
import torch

import pico
from kvdistill.latent.question import question_vectors
from kvdistill.latent.starting import StartingStudent
from kvdistill.text import QuestionRead

READ = QuestionRead(1)


def moved(model: torch.nn.Module) -> None:
    """Change everything that is trained, as training does."""
    with torch.no_grad():
        for each in model.parameters():
            if each.requires_grad:
                each.add_(0.3 * torch.randn_like(each))


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gpt2", "gemma3", "gpt_neox", "opt"])
def test_vectors_stay_where_the_student_was(name: str) -> None:
    model = pico.reasoner(name)
    batch = pico.batch(pico.cued(), "left", extra=2)
    before = question_vectors(model, batch, READ)
    start = StartingStudent(model, READ)
    torch.testing.assert_close(start.vectors(batch), before, atol=1e-5, rtol=0)
    moved(model)
    torch.testing.assert_close(start.vectors(batch), before, atol=1e-5, rtol=0)
    assert (question_vectors(model, batch, READ) - before).abs().max() > 0.1
    # Training modes and gradients of the student are its own.
    model.train()
    assert not start.model.training
    assert all(each.requires_grad for each in model.parameters())


def test_later_layers_are_neither_copied_nor_computed() -> None:
    model = pico.reasoner("llama")
    start = StartingStudent(model, READ)
    assert not any(".layers.2." in name or "lm_head" in name or "feedback" in name for name in start.copied)
    assert any(".layers.0." in name for name in start.copied)
    computed = []
    for index, layer in enumerate(start.model.body.layers):  # pyright: ignore
        layer.register_forward_pre_hook(lambda *_, index=index: computed.append(index))
    start.vectors(pico.batch(pico.samples(2)))
    assert computed == [0, 1]


def test_of_low_rank_adapters_alone_a_copy_is_made() -> None:
    model = pico.reasoner("llama", lora={"r": 2, "lora_alpha": 4, "target_modules": "all-linear"})
    start = StartingStudent(model, READ)
    assert all("lora_" in name or "trainable_tokens" in name for name in start.copied)
    weight = "backbone.model.layers.0.self_attn.k_proj.base_layer.weight"
    assert start.model.get_parameter(weight) is model.get_parameter(weight)
    batch = pico.batch(pico.samples(2))
    before = start.vectors(batch)
    moved(model)
    assert torch.equal(start.vectors(batch), before)


def test_a_resumed_student_gets_its_start_back() -> None:
    model = pico.reasoner("llama")
    batch = pico.batch(pico.samples(2))
    first = StartingStudent(model, READ)
    before, state = first.vectors(batch), {name: each.clone() for name, each in first.state().items()}
    moved(model)
    again = StartingStudent(model, READ)
    assert not torch.equal(again.vectors(batch), before)
    again.load_state(state)
    assert torch.equal(again.vectors(batch), before)
    state.popitem()
    with pytest.raises(ValueError, match="another student"):
        again.load_state(state)
