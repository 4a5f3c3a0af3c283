"""What was measured on each architecture against what its code is known to do, and measurements that must
fail.
"""

import math
import sys

import pytest
import torch
import transformers as tf

import pico
from kvdistill.capture.attention import capture_attention
from kvdistill.capture.rotation import Rotation, geometry, measure
from kvdistill.kv import LayerGeometry, Rope

HALF, INTERLEAVED = "half_split", "interleaved"
ROTARY = {
    **dict.fromkeys(("llama", "llama_tied", "qwen2", "mistral", "phi3", "olmo2"), (HALF, 4)),
    **dict.fromkeys(("llama_yarn", "llama_linear", "llama3", "llama_dynamic", "phi3_longrope"), (HALF, 4)),
    **dict.fromkeys(("qwen3", "gemma2", "gemma3"), (HALF, 8)),
    "gpt_neox": (HALF, 2),
    "glm": (INTERLEAVED, 2),
    "cohere": (INTERLEAVED, 4),
    "smollm3": (HALF, 4),
    **dict.fromkeys(("stablelm", "nemotron"), (HALF, 2)),
    "stablelm_plain": (HALF, 1),
}
"""Convention and number of turning pairs."""
LEARNED = ("gpt2", "opt")


def layers(model: tf.PreTrainedModel) -> tuple[LayerGeometry, ...]:
    return geometry(measure(model)).layers


def frequencies(model: tf.PreTrainedModel) -> list[float]:
    return layers(model)[0].rope.inv_freq.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", list(pico.CAPTURED))
def test_every_architecture_is_measured(name: str, dtype: torch.dtype) -> None:
    model = pico.backbone(name).to(dtype)
    for layer_id, layer in enumerate(layers(model)):
        turns = name in ROTARY and not (name == "smollm3" and layer_id == 1)
        assert layer.positional == ("rotary" if turns else "learned" if name in LEARNED else "none")
        assert (layer.rope is None) == (not turns)
        if turns:
            assert (layer.rope.convention, layer.rope.inv_freq.shape[-1]) == ROTARY[name]
            assert (layer.rope.start, layer.rope.inv_freq.dtype) == (0, torch.float32)


@pytest.mark.parametrize("name", list(pico.CONFIGS))
def test_shapes_and_windows(name: str) -> None:
    model = pico.backbone(name)
    config = model.config
    widths = {"qwen3": 16, "gemma2": 16, "gemma3": 16}
    windows = {"mistral": [8, 8, 8], "gemma2": [8, None, 8], "gemma3": [8, None, 8]}
    measured = layers(model)
    assert [layer.window for layer in measured] == windows.get(name, [None, None, None])
    for layer in measured:
        assert layer.heads == getattr(config, "num_key_value_heads", config.num_attention_heads)
        assert (layer.key_width, layer.value_width) == (widths.get(name, 8),) * 2


def test_frequencies_by_hand() -> None:
    """Base 10000 over eight channels: one turn in 2π, 20π, 200π and 2000π positions."""
    assert frequencies(pico.backbone("llama")) == pytest.approx([1.0, 0.1, 0.01, 0.001])
    assert frequencies(pico.backbone("llama_linear")) == pytest.approx([0.25, 0.025, 0.0025, 0.00025])


def test_attention_factors_by_hand() -> None:
    """YaRN: 0.1 ln 4 + 1. Longrope: the root of 1 + ln 8 / ln 16."""
    assert layers(pico.backbone("llama_yarn"))[0].rope.factor == pytest.approx(1.138629, abs=1e-6)
    assert layers(pico.backbone("phi3_longrope"))[0].rope.factor == pytest.approx(
        math.sqrt(1 + math.log(8) / math.log(16))
    )
    assert layers(pico.backbone("llama"))[0].rope.factor == 1.0


def test_layers_may_turn_unlike() -> None:
    """Gemma 3: base 10000 in the windowed layers, a million in the others."""
    first, second, third = (layer.rope.inv_freq for layer in layers(pico.backbone("gemma3")))
    assert first[1] == pytest.approx(10_000 ** (-1 / 8))
    assert second[1] == pytest.approx(1_000_000 ** (-1 / 8))
    assert torch.equal(first, third)


def test_frequencies_are_read_as_they_are_now() -> None:
    """Dynamic: 24 tokens where 16 were trained, factor 2, so the base grows by 2 (24 - 16 / 2) / 16 to the
    8/6.
    """
    model = pico.backbone("llama_dynamic")
    measured = measure(model)
    before = geometry(measured).layers[0].rope.inv_freq
    with torch.no_grad():
        model(input_ids=torch.full((1, 24), 5))
    after = geometry(measured).layers[0].rope.inv_freq
    assert before.tolist() == pytest.approx([1.0, 0.1, 0.01, 0.001])
    base = 10_000 * 2 ** (8 / 6)
    assert after.tolist() == pytest.approx([base ** (-i / 4) for i in range(4)])


def test_a_rotation_in_the_last_channels_is_found() -> None:
    """DeepSeek rotates the last four of a head's twelve channels; its values are narrower than its keys."""
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 64,
    }
    ranks = {
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 8,
        "v_head_dim": 6,
        "first_k_dense_replace": 2,
    }
    config = tf.DeepseekV3Config(**shape, **ranks, intermediate_size=48, max_position_embeddings=64)
    for layer in layers(pico.from_config(config)):
        assert (layer.key_width, layer.value_width) == (12, 6)
        assert (layer.rope.start, layer.rope.inv_freq.shape[-1]) == (8, 2)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "olmo2"])
def test_gain_of_the_key_norm(name: str) -> None:
    """As the key norm writes it: Gemma's gain is one more than its weight, OLMo's spans both heads."""
    model = pico.backbone(name)
    for layer, block in zip(layers(model), model.model.layers, strict=True):
        weight = None if name == "llama" else block.self_attn.k_norm.weight
        if weight is None:
            assert layer.key_norm is None
            continue
        gain = 1 + weight if name == "gemma3" else weight.view(2, 8) if name == "olmo2" else weight
        torch.testing.assert_close(layer.key_norm, gain.detach(), rtol=1e-4, atol=1e-5)


def test_a_rotation_that_nothing_explains_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = pico.backbone("llama")
    module = sys.modules[type(model).__module__]
    usual = module.apply_rotary_pos_emb
    order = torch.tensor([0, 2, 1, 3, 4, 5, 6, 7])

    def odd(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        return tuple(states[..., order] for states in usual(q, k, cos, sin))

    monkeypatch.setattr(module, "apply_rotary_pos_emb", odd)
    with pytest.raises(
        ValueError,
        match=r"Layer 0 \(LlamaAttention\) moves its keys .* neither the half-split nor the interleaved .* "
        r"captured",
    ):
        measure(model)


def test_a_rotation_without_frequencies_is_refused() -> None:
    model = pico.backbone("llama")
    model.model.rotary_emb.register_buffer("angles", model.model.rotary_emb.inv_freq)
    original = model.model.rotary_emb.forward
    rope = Rope(model.model.rotary_emb.inv_freq)

    def forward(*args: object, **kwargs: object) -> object:
        model.model.rotary_emb.inv_freq = rope.inv_freq * 3
        cos_sin = original(*args, **kwargs)
        model.model.rotary_emb.inv_freq = rope.inv_freq
        return cos_sin

    model.model.rotary_emb.forward = forward
    with pytest.raises(ValueError, match="best error"):
        measure(model)


def test_a_model_that_swallows_the_call_is_refused() -> None:
    model = pico.backbone("llama")
    original = model.model.forward
    model.model.forward = lambda kv_call, **kwargs: original(**kwargs)
    with pytest.raises(
        ValueError, match="LlamaForCausalLM does not hand its call's arguments down to its attention layers"
    ):
        measure(model)


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = pico.backbone("llama").train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    measure(model)
    assert [module.training for module in model.modules()] == modes
    assert model.config._attn_implementation == "sdpa"


def test_learned_positions_move_the_values() -> None:
    """What ``learned`` claims: one token's values differ between positions, in every layer, and not in a
    rotary model.
    """
    for name, moves in (("gpt2", True), ("llama", False)):
        model = pico.backbone(name)
        with torch.no_grad(), capture_attention(model) as call:
            model(
                input_ids=torch.tensor([[5], [5]]),
                position_ids=torch.tensor([[0], [9]]),
                use_cache=False,
                kv_call=call,
            )
        for seen in call.seen.values():
            assert ((seen.values[0] - seen.values[1]).abs().max() > 1e-3) == moves


def test_a_rotation_reads_its_factor_beside_its_frequencies() -> None:
    holder = torch.nn.Module()
    holder.register_buffer("local_inv_freq", torch.tensor([2.0]))
    assert Rotation(holder, "local_inv_freq", 0, "half_split").rope().factor == 1.0
    holder.local_attention_scaling = 1.5
    rope = Rotation(holder, "local_inv_freq", 4, "interleaved").rope()
    assert (rope.inv_freq.tolist(), rope.start, rope.convention, rope.factor) == (
        [2.0],
        4,
        "interleaved",
        1.5,
    )
