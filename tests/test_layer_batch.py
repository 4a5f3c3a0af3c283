"""Layers as one batch: the same results as layer by layer, in fewer calls."""

import pytest
import torch

import kvdistill.layer_batch
import pico
from kvdistill.capture.attention import capture_attention
from kvdistill.capture.extract import AnswerRows, Columns, extract
from kvdistill.capture.rotation import geometry, measure
from kvdistill.compress import (
    RKV,
    Attention,
    Cosine,
    FullResampled,
    LeftCrop,
    Random,
    RightCrop,
    StepEnd,
    Uniform,
)
from kvdistill.kv import KVPair, LayerKV, ModelKV, Rope
from kvdistill.layer_batch import map_layers, stack, stackable, unstack
from kvdistill.losses.kv_loss import KVLoss

L, B, H, T = 3, 2, 2, 7
METHODS = (
    RKV(),
    RKV(selection="shared"),
    Attention(),
    Cosine(),
    FullResampled(),
    LeftCrop(),
    Random(),
    RightCrop(),
    StepEnd(),
    Uniform(),
)


def layer(seed: int, slots: int = T, keys: int = 4) -> LayerKV:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(B, H, slots, generator=generator) < 0.8
    importance = torch.rand(B, H, slots, generator=generator)
    return LayerKV(
        keys=torch.randn(B, H, slots, keys, generator=generator),
        values=torch.randn(B, H, slots, 3, generator=generator),
        mask=mask,
        positions=(mask.long().cumsum(-1) - 1).clamp_min(0),
        importance=importance * mask,
        step_end=torch.arange(slots).remainder(2).bool().expand(B, H, slots),
    )


def model(slots: int = T) -> ModelKV:
    return ModelKV(tuple(layer(seed, slots) for seed in range(L)), tuple(range(L)), "test")


def alone(kv: ModelKV, index: int) -> ModelKV:
    return ModelKV((kv.layers[index],), (index,), "test")


def same(found: LayerKV, expected: LayerKV) -> None:
    for name in ("keys", "values", "mask", "positions", "importance", "step_end"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        if one is not None:
            torch.testing.assert_close(one, other)


def test_one_call_for_layers_that_are_alike() -> None:
    kv, batches = model(), []

    def double(one: LayerKV) -> LayerKV:
        batches.append(len(one.keys))
        return one.replace(keys=2 * one.keys)

    found = map_layers(kv.layers, double)
    assert batches == [L * B]
    for each, before in zip(found, kv.layers, strict=True):
        same(each, before.replace(keys=2 * before.keys))


def test_stacking_is_undone() -> None:
    kv = model()
    whole = stack(kv.layers)
    assert whole.keys.shape == (L * B, H, T, 4)
    assert torch.equal(whole.values[B : 2 * B], kv.layers[1].values), "the first layer's samples come first"
    for found, expected in zip(unstack(whole, L), kv.layers, strict=True):
        same(found, expected)


ROPE = Rope(torch.ones(2))


@pytest.mark.parametrize(
    "other",
    [
        layer(1, slots=T + 1),
        layer(1, keys=6),
        layer(1).replace(importance=None),
        layer(1).replace(values=torch.zeros(B, H, T, 3, dtype=torch.bfloat16)),
        layer(1).replace(rope=ROPE),
    ],
    ids=["slots", "width", "a field", "type", "a rotation"],
)
def test_layers_that_differ_are_taken_one_by_one(other: LayerKV) -> None:
    assert stackable((layer(0), layer(2)))
    assert not stackable((layer(0), other))
    assert len(map_layers((layer(0), other), lambda one: one)) == 2


def test_one_layer_and_large_layers_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not stackable((layer(0),))
    monkeypatch.setattr(kvdistill.layer_batch, "LARGEST", B * H * T * 4 - 1)
    assert not stackable((layer(0), layer(1)))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("slots", [3, T + 2])
def test_every_compressor_keeps_what_it_keeps_of_each_layer(method, slots: int) -> None:
    kv = model()
    found = method.compress(kv, slots)
    for index, each in enumerate(found.layers):
        same(each, method.compress(alone(kv, index), slots).layers[0])


def test_ranges_in_the_log_are_means_over_layers() -> None:
    kv = model()
    single = [RKV().diagnostics(alone(kv, index)) for index in range(L)]
    for name, value in RKV().diagnostics(kv).items():
        assert float(value) == pytest.approx(sum(float(each[name]) for each in single) / L)


@pytest.mark.parametrize("loss", [KVLoss(), KVLoss(distance="smooth_l1", cosine_weight=0.5, layer_std=False)])
@pytest.mark.parametrize("scale", [None, torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])])
def test_the_loss_and_its_gradient_are_those_of_single_layers(
    loss: KVLoss, scale: torch.Tensor | None
) -> None:
    target, before = model(), model()
    keys = [each.keys.flip(0).requires_grad_() for each in before.layers]
    student = before.map(tuple(one.replace(keys=k) for one, k in zip(before.layers, keys, strict=True)))
    found = loss.per_layer(target, student, None, scale)
    gradients = torch.autograd.grad(found[:, 0].sum(), keys)
    for index in range(L):
        own = None if scale is None else scale[index : index + 1]
        expected = loss.per_layer(alone(target, index), alone(student, index), None, own)
        torch.testing.assert_close(found[index], expected[0])
        (gradient,) = torch.autograd.grad(expected[:, 0].sum(), keys[index])
        torch.testing.assert_close(gradients[index], gradient)


def test_the_pair_of_a_step_is_weighed_as_before() -> None:
    pair = KVPair(model(), model(), layer_weights=torch.tensor([1.0, 0.0, 0.0]))
    assert float(KVLoss().per_sample(pair.target, pair.student, None, pair.layer_weights).abs().max()) == 0


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt2", "llama_dynamic"])
def test_extraction_is_that_of_single_layers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, width = pico.backbone(name), 16
    ids = torch.randint(3, 60, (2, width), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(width)[None] >= torch.tensor([[0], [4]])
    positions = (mask.long().cumsum(-1) - 1).clamp_min(0)
    columns = torch.arange(width - 2, width).expand(2, -1)
    rows = AnswerRows(columns, mask.gather(1, columns), positions.gather(1, columns))
    text = Columns(2, 12, mask[:, 2:12], positions[:, 2:12], step_end=mask[:, 2:12])
    measured = measure(backbone)
    with torch.no_grad(), capture_attention(backbone) as call:
        backbone(
            input_ids=ids, attention_mask=mask.long(), position_ids=positions, use_cache=False, kv_call=call
        )

    def cache() -> ModelKV:
        return extract(call, geometry(measured), text, rows, name)

    stacked = cache()
    monkeypatch.setattr(kvdistill.layer_batch, "LARGEST", 0)
    for found, expected in zip(stacked.layers, cache().layers, strict=True):
        same(found, expected)
