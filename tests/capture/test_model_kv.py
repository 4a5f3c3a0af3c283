"""Capturing a plain model or a student's backbone, against the model's own cache."""

import pytest
import torch

import pico
from kvdistill.capture.architecture import examine
from kvdistill.capture.cache import kv_from_cache
from kvdistill.capture.model_kv import capture_kv
from kvdistill.kv import ModelKV
from kvdistill.latent.reasoner import LatentReasoner

WIDTH = 20
IDS = torch.randint(3, 60, (2, WIDTH), generator=torch.Generator().manual_seed(5))
MASK = (torch.arange(WIDTH)[None] >= torch.tensor([0, 6])[:, None]).long()


def close(one: ModelKV, other: ModelKV) -> None:
    """The same keys, values and importance at the same valid slots."""
    assert one.layer_ids == other.layer_ids
    for a, b in zip(one.layers, other.layers, strict=True):
        assert torch.equal(a.mask, b.mask)
        assert torch.equal(a.positions * a.mask, b.positions * b.mask)
        valid = a.mask[..., None]
        torch.testing.assert_close(a.keys * valid, b.keys * valid, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a.values * valid, b.values * valid, rtol=1e-4, atol=1e-5)
        assert (a.importance is None) == (b.importance is None)
        if a.importance is not None:
            torch.testing.assert_close(a.importance, b.importance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "phi3_longrope"])
def test_captured_is_what_the_model_caches(name: str) -> None:
    """Left-padded, with the attention of the last three tokens, which the cache's side reads again."""
    model = pico.backbone(name)
    positions = (MASK.cumsum(-1) - 1).clamp_min(0)
    cache = model(input_ids=IDS, attention_mask=MASK, position_ids=positions, use_cache=True).past_key_values
    captured = capture_kv(model, IDS, MASK, answer=slice(-3, None))
    close(captured, kv_from_cache(cache, model, MASK, last_ids=IDS[:, -3:]))
    for layer in captured.layers:
        assert layer.importance is not None
        torch.testing.assert_close(layer.importance.sum(-1), torch.ones(layer.importance.shape[:2]))
    assert captured.source == f"{type(model).__name__}, tokens 0 to 20 of 20"


def test_some_tokens_and_the_attention_of_others() -> None:
    model = pico.backbone("llama")
    every = capture_kv(model, IDS)
    some = capture_kv(model, IDS, tokens=slice(4, -5), answer=slice(-5, -2))
    assert some.source == "LlamaForCausalLM, tokens 4 to 15 of 20"
    for few, all_ in zip(some.layers, every.layers, strict=True):
        assert torch.equal(few.keys, all_.keys[:, :, 4:15])
        assert few.positions[0, 0].tolist() == list(range(11))
        assert few.importance is not None
        assert all_.importance is None
    rows = capture_kv(model, IDS[:, :18], tokens=slice(4, 15), answer=slice(15, 18))
    close(some, rows)


def test_the_model_is_as_it_was() -> None:
    model = pico.backbone("llama", attention="eager").train()
    before = model(IDS).logits
    capture_kv(model, IDS)
    assert model.training
    assert model.config._attn_implementation == "eager"
    assert torch.equal(model(IDS).logits, before)


def test_of_a_student_the_backbone_is_read() -> None:
    student = pico.reasoner("llama", slots=3, passes=2)
    backbone = pico.backbone("llama")
    assert isinstance(student, LatentReasoner)
    captured = capture_kv(student, IDS, MASK, architecture=examine(student.backbone))
    close(captured, capture_kv(backbone, IDS, MASK))
    assert captured.source.startswith("LlamaForCausalLM")
