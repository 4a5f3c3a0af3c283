"""The shell of the key norm: by hand, and on the keys of real models."""

import pytest
import torch

import pico
from kvdistill.align.key_norm import onto_shell, to_key_norm
from kvdistill.capture.rotation import geometry, measure
from kvdistill.kv import Geometry, LayerGeometry, ModelKV
from pico_align import cache, layer_kv


def test_by_hand() -> None:
    """Gain (1, 2): (3, 8) / (1, 2) = (3, 4), root mean square 5 / sqrt 2."""
    found = onto_shell(torch.tensor([[[[3.0, 8.0], [0.0, 0.0]]]]), torch.tensor([1.0, 2.0]))
    root = 2**0.5
    assert found[0, 0, 0].tolist() == pytest.approx([3 * root / 5, 8 * root / 5])
    assert found[0, 0, 1].tolist() == [0.0, 0.0]


def test_a_norm_over_all_heads_by_hand() -> None:
    """Heads 3 and 4 of width 1 are normalized together."""
    keys = torch.tensor([[[[3.0]], [[4.0]]]])
    found = onto_shell(keys, torch.ones(2, 1))
    assert found.flatten().tolist() == pytest.approx([3 * 2**0.5 / 5, 4 * 2**0.5 / 5])


def test_a_channel_of_gain_0_stays_0_and_counts_for_nothing() -> None:
    found = onto_shell(torch.tensor([[[[3.0, 7.0]]]]), torch.tensor([2.0, 0.0]))
    assert found.flatten().tolist() == pytest.approx([2.0, 0.0])


def test_gradients_are_finite_at_keys_of_0() -> None:
    keys = torch.zeros(1, 1, 2, 3, requires_grad=True)
    onto_shell(keys, torch.ones(3)).sum().backward()
    assert keys.grad.isfinite().all()


@pytest.mark.parametrize("name", ["qwen3", "olmo2"])
def test_true_keys_are_on_the_shell(name: str) -> None:
    """Exact up to the norm's epsilon; keys of another length return to it."""
    model = pico.backbone(name)
    shape = geometry(measure(model))
    assert shape.layers[0].key_norm is not None
    layers = []
    for block, layer in zip(model.model.layers, shape.layers, strict=True):
        states = torch.randn(2, 6, model.config.hidden_size) * 30
        with torch.no_grad():
            keys = block.self_attn.k_proj(states)
            if name == "qwen3":
                keys = block.self_attn.k_norm(keys.unflatten(-1, (layer.heads, -1)))
            else:
                keys = block.self_attn.k_norm(keys).unflatten(-1, (layer.heads, -1))
        layers.append(layer_kv(keys.transpose(1, 2), keys.transpose(1, 2)))
    true = ModelKV(tuple(layers), shape.layer_ids, name)
    shorter = true.map(tuple(layer.replace(keys=layer.keys * 0.3) for layer in true.layers))
    for kv in (true, shorter):
        for wanted, found in zip(true.layers, to_key_norm(kv, shape).layers, strict=True):
            torch.testing.assert_close(found.keys, wanted.keys, rtol=1e-5, atol=1e-6)
            assert found.values is kv.layers[0].values or torch.equal(found.values, wanted.values)


def test_layers_without_a_norm_are_as_they_are() -> None:
    bare, normed = (LayerGeometry(1, 2, 2, None, "none", key_norm=gain) for gain in (None, torch.ones(2)))
    shape = Geometry((bare, normed), (3, 7))
    kv = cache(shape)
    found = to_key_norm(kv, shape)
    assert found.layers[0] is kv.layers[0]
    torch.testing.assert_close(found.layers[1].keys.square().mean(-1), torch.ones(2, 1, 5))
