"""The wrapper against the bare model: not one bit of the logits changes, and nothing stays behind."""

import pytest
import torch
import transformers as tf
from torch import nn

import pico
from kvdistill.capture.attention import (
    PREFIX,
    capture_attention,
    evaluating,
    register_capture_backend,
    require_mask_support,
)
from kvdistill.capture.call import AttentionCall

IDS = torch.randint(3, 60, (3, 20), generator=torch.Generator().manual_seed(1))
MASK = torch.arange(20)[None] >= torch.tensor([0, 5, 11])[:, None]
POSITIONS = (MASK.long().cumsum(-1) - 1).clamp_min(0)
PADDED = {"input_ids": IDS, "attention_mask": MASK.long(), "position_ids": POSITIONS, "use_cache": False}
OWN_ATTENTION = {
    "bloom": lambda: tf.BloomConfig(hidden_size=32, n_layer=1, n_head=4, vocab_size=64),
    "falcon": lambda: tf.FalconConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, vocab_size=64
    ),
    "gptj": lambda: tf.GPTJConfig(
        n_embd=32, n_layer=1, n_head=4, rotary_dim=4, vocab_size=64, n_positions=32
    ),
    "mpt": lambda: tf.MptConfig(d_model=32, n_layers=1, n_heads=4, vocab_size=64),
}


def backbone(name: str, backend: str) -> tf.PreTrainedModel:
    if backend == "sdpa" and name == "gemma2":
        pytest.skip("Gemma 2 refuses sdpa, which has no soft-cap")
    return pico.backbone(name, attention=backend)


def belongings(model: nn.Module) -> list[tuple[str, list[str], int]]:
    """Name, attributes and number of hooks of every module."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        (name, sorted(vars(module)), sum(len(getattr(module, kind)) for kind in hooks))
        for name, module in model.named_modules()
    ]


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
@pytest.mark.parametrize("name", list(pico.CAPTURED))
def test_capture_changes_no_bit_and_leaves_nothing_behind(name: str, backend: str) -> None:
    model = backbone(name, backend)
    with torch.no_grad():
        before = model(**PADDED).logits
        owned, forwards = (
            belongings(model),
            {type(module): type(module).forward for module in model.modules()},
        )
        with capture_attention(model) as call:
            assert model.config._attn_implementation == PREFIX + backend
            inside = model(**PADDED, kv_call=call).logits
            without = model(**PADDED).logits
        after = model(**PADDED).logits
    assert torch.equal(inside[MASK], before[MASK])
    assert torch.equal(without[MASK], before[MASK])
    assert torch.equal(after[MASK], before[MASK])
    assert before[MASK].isfinite().all()
    assert model.config._attn_implementation == backend
    assert belongings(model) == owned
    assert {type(module): type(module).forward for module in model.modules()} == forwards
    assert sorted(call.seen) == [0, 1, 2]
    assert call.closed


@pytest.mark.parametrize("name", list(pico.CONFIGS))
def test_padding_counts(name: str) -> None:
    """Tokens under the mask change nothing: the wrapper has not lost the model's own mask."""
    model = pico.backbone(name)
    with torch.no_grad(), capture_attention(model):
        some = model(**PADDED, kv_call=AttentionCall()).logits
        other = model(**{**PADDED, "input_ids": IDS.where(MASK, 40)}, kv_call=AttentionCall()).logits
    assert not torch.equal(IDS, IDS.where(MASK, 40))
    torch.testing.assert_close(some[MASK], other[MASK], rtol=0, atol=0)


def test_the_backend_comes_back_after_an_error() -> None:
    model = pico.backbone("llama", attention="eager")
    with pytest.raises(RuntimeError, match="midway"), capture_attention(model) as call:
        raise RuntimeError("midway")
    assert model.config._attn_implementation == "eager"
    assert call.closed


def test_a_replay_after_the_end_notes_nothing() -> None:
    model = pico.backbone("llama")
    with torch.no_grad():
        with capture_attention(model) as first:
            model(**PADDED, kv_call=first)
        noted = dict(first.seen)
        with capture_attention(model):
            model(**{**PADDED, "input_ids": IDS.flip(1)}, kv_call=first)
    assert all(first.seen[layer_id] is seen for layer_id, seen in noted.items())


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
@pytest.mark.parametrize("name", list(pico.CONFIGS))
def test_a_prefix_stands_for_the_tokens_before(name: str, backend: str) -> None:
    """The last six tokens on top of the noted keys and values of the first fourteen, sliding windows
    included.
    """
    model = backbone(name, backend)
    positions = torch.arange(20).expand(3, -1)
    with torch.no_grad():
        whole = model(input_ids=IDS, position_ids=positions, use_cache=False).logits
        with capture_attention(model) as call:
            model(input_ids=IDS, position_ids=positions, use_cache=False, kv_call=call)
        prefix = {
            i: ([seen.keys[:, :, :5], seen.keys[:, :, 5:14]], [seen.values[:, :, :14]])
            for i, seen in call.seen.items()
        }
        visible = (torch.arange(14, 20)[:, None] >= torch.arange(20)).expand(3, 1, -1, -1)
        with capture_attention(model):
            second = AttentionCall(visible, positions[:, 14:], (positions,), prefix)
            inputs = {"input_ids": IDS[:, 14:], "position_ids": positions[:, 14:], "attention_mask": visible}
            rest = model(**inputs, use_cache=False, kv_call=second).logits
    torch.testing.assert_close(rest, whole[:, 14:], rtol=1e-4, atol=1e-5)
    assert all(seen.keys.shape[2] == 6 for seen in second.seen.values())


@pytest.mark.parametrize("name", list(OWN_ATTENTION))
def test_models_with_an_attention_of_their_own_are_refused(name: str) -> None:
    model = tf.AutoModelForCausalLM.from_config(OWN_ATTENTION[name]())
    with pytest.raises(
        ValueError,
        match=r"ForCausalLM computes its attention by itself .* Choose another architecture \(Llama, Qwen",
    ):
        register_capture_backend(model)


def test_packing_needs_a_causal_model_whose_backend_takes_a_mask() -> None:
    assert require_mask_support(pico.backbone("llama")) == register_capture_backend(pico.backbone("llama"))
    with pytest.raises(
        ValueError, match=r"flex_attention attention takes no mask .* attn_implementation='sdpa' or 'eager'\."
    ):
        require_mask_support(pico.backbone("llama", attention="flex_attention"))
    t5 = tf.T5ForConditionalGeneration(
        tf.T5Config(d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=64)
    )
    with pytest.raises(
        ValueError,
        match="T5ForConditionalGeneration is an encoder-decoder: student and teacher have to be causal",
    ):
        require_mask_support(t5)


def test_gpt2_that_upcasts_in_eager_mode_is_refused() -> None:
    config = pico.CONFIGS["gpt2"]()
    config.reorder_and_upcast_attn = True
    with pytest.raises(ValueError, match=r"reorder_and_upcast_attn .* use attn_implementation='sdpa'\."):
        register_capture_backend(pico.from_config(config, attention="eager"))
    assert register_capture_backend(pico.from_config(config, attention="sdpa")) == PREFIX + "sdpa"


def test_a_layer_without_an_eager_function_is_refused() -> None:
    model = pico.backbone("llama", attention="eager")
    function = tf.AttentionInterface()[register_capture_backend(model)]
    states = torch.zeros(1, 1, 1, 4)
    with pytest.raises(
        ValueError, match=r"Linear has no eager attention function of its own: load the model with .*'sdpa'\."
    ):
        function(nn.Linear(1, 1), states, states, states, None)


def test_evaluation_mode_ends_with_the_block() -> None:
    model = pico.backbone("llama").train()
    model.get_input_embeddings().eval()
    before = {name: module.training for name, module in model.named_modules()}
    assert set(before.values()) == {True, False}
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert {name: module.training for name, module in model.named_modules()} == before
    with pytest.raises(RuntimeError, match="in the middle"), evaluating(model):
        raise RuntimeError("in the middle")
    assert {name: module.training for name, module in model.named_modules()} == before
