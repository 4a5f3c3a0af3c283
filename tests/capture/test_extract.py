"""Caches off the wrapper against the model's own projections."""

from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor

import pico
import pico_slow
from kvdistill.align.rope_scale import ntk_base
from kvdistill.capture.attention import AttentionCall, capture_attention
from kvdistill.capture.extract import AnswerRows, Columns, extract, gather_rows, text_order
from kvdistill.capture.rotation import geometry, measure
from kvdistill.kv import ModelKV, require_unrotated
from kvdistill.ops import rotate
from pico_families import Case, build
from pico_variants import MIXED, PLAIN_ROPE

WIDTH = 24
ROTARY = [name for name in pico.CAPTURED if name not in ("gpt2", "opt")]
FIXED = [name for name in ROTARY if name not in ("llama_dynamic", "phi3_longrope")]
"""Rotary models whose frequencies do not depend on the length of the text."""
FAMILIES = (
    Case("deepseek_v3"),
    Case("deepseek_v3", "half_split", {"rope_interleave": False, "q_lora_rank": None}),
    Case("phi"),
    Case("ernie4_5"),
    Case("cohere2", "unscaled", {"logit_scale": 1.0, "layer_types": MIXED}),
    Case("llama", "ntk", {"rope_parameters": PLAIN_ROPE | {"rope_theta": ntk_base(1e4, 4.0, 16)}}),
)
"""Rotations that no pico model has."""


def texts(pad: int = 5, shift: int = 0) -> dict[str, Tensor]:
    """Two left-padded texts: one of all columns, one of ``pad`` fewer."""
    ids = torch.randint(3, 60, (2, WIDTH), generator=torch.Generator().manual_seed(3))
    mask = torch.arange(WIDTH)[None] >= torch.tensor([0, pad])[:, None]
    positions = (mask.long().cumsum(-1) - 1).clamp_min(0) + shift
    return {"input_ids": ids, "attention_mask": mask.long(), "position_ids": positions}


def before_rotation(model: tf.PreTrainedModel, inputs: dict[str, Tensor]) -> dict[int, Tensor]:
    """Layer id -> the keys that attention gets where cosine is 1 and sine 0, on the same hidden states."""
    calls: dict[int, tuple[Any, dict[str, Any]]] = {}

    def note(module: Any, _: tuple[()], given: dict[str, Any]) -> None:
        calls[module.layer_idx] = module, given

    blocks = [layer.self_attn for layer in model.model.layers]
    hooks = [block.register_forward_pre_hook(note, with_kwargs=True) for block in blocks]
    model(**inputs, use_cache=False)
    for hook in hooks:
        hook.remove()
    with capture_attention(model) as call:
        for module, given in calls.values():
            cos, sin = given["position_embeddings"]
            still = torch.ones_like(cos), torch.zeros_like(sin)
            module(**given | {"position_embeddings": still, "kv_call": call})
    return {layer_id: seen.keys for layer_id, seen in call.seen.items()}


def captured(model: tf.PreTrainedModel, inputs: dict[str, Tensor], start: int, stop: int) -> ModelKV:
    """The cache over columns [start, stop) of one call, with the rows of the last three columns as the
    answer's.
    """
    measured = measure(model)
    mask = inputs["attention_mask"].bool()
    columns = torch.arange(WIDTH - 3, WIDTH).expand(2, -1)
    rows = AnswerRows(columns, mask.gather(1, columns), inputs["position_ids"].gather(1, columns))
    with capture_attention(model) as call:
        model(**inputs, use_cache=False, kv_call=call)
    text = Columns(start, stop, mask[:, start:stop], inputs["position_ids"][:, start:stop])
    return extract(call, geometry(measured), text, rows, "a pico model")


@pytest.mark.parametrize("name", list(pico.CAPTURED))
def test_keys_are_those_before_the_rotation(name: str) -> None:
    model, inputs = pico.backbone(name), texts()
    with torch.no_grad():
        _, layers = pico_slow.projected(model, **inputs)
        kv = captured(model, inputs, 3, 20)
    require_unrotated(kv, "test")
    valid = inputs["attention_mask"][:, None, 3:20, None].bool()
    moved = 0.0
    for layer_id, layer in zip(kv.layer_ids, kv.layers, strict=True):
        own = layers[layer_id]
        torch.testing.assert_close(layer.keys * valid, own.keys[:, :, 3:20] * valid, rtol=1e-4, atol=1e-5)
        assert torch.equal(layer.values, own.values[:, :, 3:20])
        moved = max(moved, float((own.rotated()[1] - own.keys).abs().max()))
    assert (moved > 0.01) == (name in ROTARY)


@pytest.mark.parametrize("case", FAMILIES, ids=str)
def test_keys_of_other_families_are_those_before_the_rotation(case: Case) -> None:
    """Latent attention that rotates the last channels, partial and interleaved rotations, layers without."""
    model, inputs = build(case), texts()
    with torch.no_grad():
        own = before_rotation(model, inputs)
        kv = captured(model, inputs, 3, 20)
        with capture_attention(model) as call:
            model(**inputs, use_cache=False, kv_call=call)
    valid = inputs["attention_mask"][:, None, 3:20, None].bool()
    assert set(kv.layer_ids) == set(own)
    moved = 0.0
    for layer_id, layer in zip(kv.layer_ids, kv.layers, strict=True):
        expected = own[layer_id][:, :, 3:20]
        torch.testing.assert_close(layer.keys * valid, expected * valid, rtol=1e-3, atol=1e-4)
        moved = max(moved, float((call.seen[layer_id].keys[:, :, 3:20] - expected).abs().max()))
    assert moved > 0.1


@pytest.mark.parametrize("name", FIXED)
def test_keys_moved_by_hand_are_the_keys_the_model_computes_there(name: str) -> None:
    model, here, there = pico.backbone(name), texts(pad=0), texts(pad=0, shift=11)
    with torch.no_grad():
        kv = captured(model, here, 0, WIDTH)
        with capture_attention(model) as call:
            model(**there, use_cache=False, kv_call=call)
    for layer_id, layer in enumerate(kv.layers):
        rope = geometry(measure(model)).layers[layer_id].rope
        if rope is not None:
            keys = rotate(layer.keys, there["position_ids"][:, None], rope)
            torch.testing.assert_close(keys, call.seen[layer_id].keys, rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("name", ["llama_dynamic", "phi3_longrope"])
def test_long_texts_change_the_frequencies(name: str) -> None:
    """24 tokens where 16 were trained: keys taken off with the short text's frequencies would be wrong."""
    model, inputs = pico.backbone(name), texts()
    short = geometry(measure(model))
    with torch.no_grad():
        _, layers = pico_slow.projected(model, **inputs)
        kv = captured(model, inputs, 0, WIDTH)
        wrong = rotate(
            layers[0].rotated()[1], inputs["position_ids"][:, None], short.layers[0].rope, inverse=True
        )
    assert (wrong - layers[0].keys).abs().max() > 0.01
    torch.testing.assert_close(kv.layers[0].keys[0], layers[0].keys[0], rtol=1e-4, atol=1e-5)


def test_bookkeeping_by_hand() -> None:
    model, inputs = pico.backbone("llama"), texts()
    kv = captured(model, inputs, 3, 8)
    layer = kv.layers[0]
    assert (kv.layer_ids, kv.source) == ((0, 1, 2), "a pico model")
    assert layer.mask[1, 0].tolist() == [False, False, True, True, True]
    assert layer.positions[:, 0].tolist() == [[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]]
    assert (layer.rope, layer.step_end) == (None, None)
    assert not layer.keys.requires_grad
    assert not layer.values.requires_grad


def test_without_rows_there_is_no_importance() -> None:
    model, inputs = pico.backbone("llama"), texts(pad=0)
    measured = measure(model)
    with torch.no_grad(), capture_attention(model) as call:
        model(**inputs, use_cache=False, kv_call=call)
    ends = torch.zeros(2, 4, dtype=torch.bool)
    ends[0, 1] = True
    text = Columns(2, 6, torch.ones(2, 4, dtype=torch.bool), inputs["position_ids"][:, 2:6], ends)
    kv = extract(call, geometry(measured), text, None, "a pico model")
    assert all(layer.importance is None for layer in kv.layers)
    assert kv.layers[2].step_end[:, 1].tolist() == ends.tolist()


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "glm"])
def test_padding_changes_nothing(name: str) -> None:
    model, inputs = pico.backbone(name), texts()
    alone = {key: value[1:, 5:].expand(2, -1) for key, value in inputs.items()}
    with torch.no_grad():
        together = captured(model, inputs, 0, 20)
        measured = measure(model)
        with capture_attention(model) as call:
            model(**alone, use_cache=False, kv_call=call)
    columns = torch.arange(WIDTH - 8, WIDTH - 5).expand(2, -1)
    rows = AnswerRows(columns, torch.ones_like(columns, dtype=torch.bool), columns)
    text = Columns(0, 15, torch.ones(2, 15, dtype=torch.bool), alone["position_ids"][:, :15])
    kv = extract(call, geometry(measured), text, rows, "alone")
    for one, many in zip(kv.layers, together.layers, strict=True):
        for field in ("keys", "values", "importance"):
            torch.testing.assert_close(
                getattr(many, field)[1, :, 5:], getattr(one, field)[1], rtol=1e-4, atol=1e-5
            )
        assert torch.equal(many.positions[1, :, 5:], one.positions[1])
        assert not many.importance[1, :, :5].any()


def test_text_order_by_hand() -> None:
    mask = torch.tensor([[True, False, True, True], [False, False, True, False], [False] * 4])
    assert text_order(mask).tolist() == [[0, 0, 1, 2], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_gather_rows_by_hand() -> None:
    states = torch.arange(12.0).view(2, 1, 3, 2)
    rows = gather_rows(states, torch.tensor([[2, 0], [1, 1]]))
    assert rows[:, 0].tolist() == [[[4.0, 5.0], [0.0, 1.0]], [[8.0, 9.0], [8.0, 9.0]]]


def test_nothing_seen_gives_an_empty_cache() -> None:
    text = Columns(0, 1, torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.long))
    kv = extract(AttentionCall(), geometry(measure(pico.backbone("llama"))), text, None, "nobody")
    assert kv.layers == ()
