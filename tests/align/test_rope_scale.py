"""Rotary frequencies against transformers' own, and keys moved between positions against the models'."""

import math
from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor

import pico
from kvdistill.align.rope_scale import (
    Dynamic,
    Linear,
    Llama3,
    LongRope,
    NTKAware,
    Unscaled,
    Yarn,
    move,
    ntk_base,
    plain_frequencies,
)
from kvdistill.capture.attention import capture_attention
from kvdistill.capture.rotation import geometry, measure
from kvdistill.kv import Rope
from kvdistill.ops import rotate

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 64,
}
WIDTH, THETA, WINDOW = 16, 10_000.0, 32
SHORT, LONG = [1.0 + i / 10 for i in range(8)], [2.0 + i for i in range(8)]
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "default": (Unscaled(), {}),
    "linear": (Linear(factor=4.0), {"factor": 4.0}),
    "dynamic": (Dynamic(factor=2.0, window=WINDOW), {"factor": 2.0}),
    "llama3": (
        Llama3(factor=8.0, window=WINDOW),
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    ),
    "yarn": (Yarn(factor=4.0, window=WINDOW), {"factor": 4.0}),
    "longrope": (
        LongRope(factor=4.0, window=WINDOW, short=tuple(SHORT), long=tuple(LONG)),
        {"factor": 4.0, "short_factor": SHORT, "long_factor": LONG},
    ),
}


def llama(**rope: Any) -> tf.PreTrainedModel:
    parameters = {"rope_type": "default", "rope_theta": THETA} | rope
    return pico.from_config(
        tf.LlamaConfig(**SHAPE, max_position_embeddings=WINDOW, rope_parameters=parameters)
    )


def keys_at(model: tf.PreTrainedModel, first: int, count: int = 6) -> dict[int, Tensor]:
    """Layer id -> the keys that attention sees, of the same tokens from position ``first`` on."""
    ids = torch.randint(3, 60, (2, count), generator=torch.Generator().manual_seed(1))
    positions = torch.arange(first, first + count).expand(2, -1)
    with torch.no_grad(), capture_attention(model) as call:
        model(input_ids=ids, position_ids=positions, use_cache=False, kv_call=call)
    return {layer_id: seen.keys for layer_id, seen in call.seen.items()}


def test_frequencies_by_hand() -> None:
    """Base 10000 over four channels: 1 and 1 / 100. Base 16, four channels, factor 4: base 16 · 4² = 256."""
    assert plain_frequencies(10_000.0, 4).tolist() == pytest.approx([1.0, 0.01])
    assert NTKAware(factor=4.0).rope(16.0, 4).inv_freq.tolist() == pytest.approx([1.0, 1 / 16])
    assert Linear(factor=2.0).rope(16.0, 4).inv_freq.tolist() == pytest.approx([0.5, 0.125])


def test_the_base_of_ntk_by_hand() -> None:
    """10000 · 4^(64/62) = 41829; the lowest frequency is then exactly a quarter, the highest unchanged."""
    assert ntk_base(10_000.0, 4.0, 64) == pytest.approx(41_829, abs=0.5)
    ratio = NTKAware(factor=4.0).rope(1e4, 64).inv_freq / plain_frequencies(1e4, 64)
    assert ratio[[0, -1]].tolist() == pytest.approx([1.0, 0.25])


def test_attention_factors_by_hand() -> None:
    """YaRN: 0.1 ln 4 + 1. Longrope: the root of 1 + ln 4 / ln 32."""
    assert METHODS["yarn"][0].rope(THETA, WIDTH).factor == pytest.approx(1.138629, abs=1e-6)
    assert METHODS["longrope"][0].rope(THETA, WIDTH).factor == pytest.approx(math.sqrt(1.4))
    assert Yarn(factor=4.0, window=32, attention_factor=1.5).rope(THETA, WIDTH).factor == 1.5


@pytest.mark.parametrize("length", [8, 33, 96])
@pytest.mark.parametrize("name", list(METHODS))
def test_frequencies_are_those_of_transformers(name: str, length: int) -> None:
    method, settings = METHODS[name]
    original = {}
    if name in ("llama3", "yarn", "longrope"):
        original = {"original_max_position_embeddings": WINDOW}
    model = llama(rope_type=name, **settings, **original)
    keys_at(model, 0, length)
    rotary: Any = model.model.rotary_emb  # its frequencies are now those of a text of this length
    found = method.rope(THETA, WIDTH, length)
    torch.testing.assert_close(found.inv_freq, rotary.inv_freq, rtol=1e-5, atol=1e-8)
    assert found.factor == pytest.approx(rotary.attention_scaling)


def test_the_thresholds_of_llama_3_2() -> None:
    """Factor 32, low 1, high 4, window 8192, base 500000, 64 channels, against transformers' formula."""
    parameters = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "low_freq_factor": 1.0}
    parameters |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config = tf.LlamaConfig(**SHAPE | {"head_dim": 64}, rope_parameters=parameters)
    expected, factor = tf.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config)
    found = Llama3(factor=32.0, window=8192).rope(5e5, 64)
    torch.testing.assert_close(found.inv_freq, expected, rtol=1e-5, atol=1e-12)
    assert found.factor == factor == 1.0


def test_move_by_hand() -> None:
    """A quarter turn per position: (1, 0) at position 1 is (-1, 0) at 3, and (1, 0) again at 5."""
    keys, rope = torch.tensor([[[[1.0, 0.0]]]]), Rope(torch.tensor([math.pi / 2]), factor=3.0)
    at = [torch.tensor([[[position]]]) for position in (1, 3, 5)]
    torch.testing.assert_close(move(keys, at[0], at[1], rope), -keys)
    torch.testing.assert_close(move(keys, at[0], at[2], rope), keys, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "name", ["llama", "qwen3", "gemma3", "gpt_neox", "glm", "cohere", "llama_yarn", "stablelm"]
)
def test_moved_keys_are_those_that_the_model_computes_there(name: str) -> None:
    """Half-split and interleaved, complete and partial, two rotations in one model, an attention factor."""
    model = pico.backbone(name)
    layers = geometry(measure(model)).layers
    before, after = keys_at(model, 2), keys_at(model, 19)
    start, end = ((torch.arange(6) + first).expand(2, 1, 6) for first in (2, 19))
    for layer_id, keys in before.items():
        rope = layers[layer_id].rope
        assert rope is not None
        torch.testing.assert_close(move(keys, start, end, rope), after[layer_id], rtol=1e-4, atol=3e-5)
        torch.testing.assert_close(move(after[layer_id], end, start, rope), keys, rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("key_norm", [False, True])
def test_partial_rotation_of_stablelm(key_norm: bool) -> None:
    """Its first four of sixteen channels turn; measured, and equal to the formula and to its projections."""
    parameters = {"rope_type": "default", "rope_theta": THETA, "partial_rotary_factor": 0.25}
    shape = SHAPE | {"head_dim": None, "qk_layernorm": key_norm}
    model = pico.from_config(tf.StableLmConfig(**shape, rope_parameters=parameters))
    rope = geometry(measure(model)).layers[0].rope
    assert rope is not None
    assert (rope.start, rope.convention, rope.factor) == (0, "half_split", 1.0)
    torch.testing.assert_close(rope.inv_freq, Unscaled().rope(THETA, 4).inv_freq)
    bare: list[Tensor] = []
    attention: Any = model.model.layers[0].self_attn
    last = attention.k_layernorm if key_norm else attention.k_proj
    last.register_forward_hook(lambda _, __, keys: bare.append(keys))
    captured = [keys_at(model, first)[0] for first in (2, 19)]
    start = [torch.arange(first, first + 6).expand(2, 1, 6) for first in (2, 19)]
    own = bare[0]  # (B, H, T, K), before the rotation
    if not key_norm:
        own = own.unflatten(-1, (2, 16)).transpose(1, 2)
    torch.testing.assert_close(rotate(captured[0], start[0], rope, inverse=True), own, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(move(captured[0], *start, rope), captured[1], rtol=1e-4, atol=1e-5)
    assert torch.equal(captured[0][..., 4:], own[..., 4:])


def test_keys_scaled_by_ntk_are_those_of_a_model_with_the_scaled_base() -> None:
    """The same weights with theta' in the configuration; un-rotated, both have the same first layer."""
    plain, scaled = llama(), llama(rope_theta=ntk_base(THETA, 4.0, WIDTH))
    scaled.load_state_dict(plain.state_dict())
    rope = NTKAware(factor=4.0).rope(THETA, WIDTH)
    measured = geometry(measure(scaled)).layers[0].rope
    assert measured is not None
    torch.testing.assert_close(measured.inv_freq, rope.inv_freq)
    # The first layer reads embeddings, which no rotation has changed: from position 0, where none acts.
    zero, there = (torch.full((2, 1, 1), position) for position in (0, 40))
    moved = move(keys_at(plain, 0, 1)[0], zero, there, rope)
    torch.testing.assert_close(moved, keys_at(scaled, 40, 1)[0], rtol=1e-4, atol=1e-5)
    assert (moved - keys_at(plain, 40, 1)[0]).abs().max() > 0.01
