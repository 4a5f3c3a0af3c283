"""Generation caches: captured keys and values as they are, or the model's own prefill."""

import pytest
import torch
import transformers as tf

import pico
import pico_slow
from kvdistill.capture.architecture import examine
from kvdistill.capture.cache import captured_cache, kv_from_cache, kv_to_cache, prefill_cache
from kvdistill.capture.model_kv import capture_kv
from kvdistill.compress import RKV, CompressorMethod, Full, RightCrop
from kvdistill.kv import ModelKV
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.decode import generate_ids
from kvdistill.latent.passes import encode_latents
from kvdistill.latent.reasoner import LatentReasoner

LATENT_ATTENTION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 64,
}
LATENT_ATTENTION |= {
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
LATENT_ATTENTION |= {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 16,
}
LATENT_ATTENTION |= {
    "intermediate_size": 48,
    "first_k_dense_replace": 1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_both_caches_hold_the_same_where_attention_sees_what_is_cached(name: str) -> None:
    model, row = pico.reasoner(name, slots=3, passes=2), pico.samples(1)[0]
    with torch.no_grad():
        past = encode_latents(model, pico.batch((row,)).student_mode)
        inputs = pico_slow.thought(model, row)
        captured = captured_cache(model.backbone, past.prefix)
        filled = prefill_cache(model.backbone, inputs, past.mask, past.positions)
    for one, other in zip(captured.layers, filled.layers, strict=True):
        torch.testing.assert_close(one.keys, other.keys, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.values, other.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("passes", [0, 2])
def test_a_model_that_caches_latent_vectors_answers_as_without_a_cache(passes: int) -> None:
    """DeepSeek-V3 caches compressed vectors; greedy decoding by complete calls is the reference."""
    backbone = pico.from_config(tf.DeepseekV3Config(**LATENT_ATTENTION))
    config = LatentConfig(backbone=backbone.config, special=dict(pico.SPECIAL), slots=3, passes=passes)
    model, rows = LatentReasoner(config, backbone).eval(), pico.samples(3)
    with torch.no_grad():
        found = generate_ids(model, pico.batch(rows, "left"), "latent", 4)
        for row, answer in zip(rows, found.tolist(), strict=True):
            text = pico_slow.thought(model, row)
            tail = torch.tensor([[model.special.eot, *row["prompt"]]])
            text = torch.cat((text, model.embed(tail)), 1)
            for token in answer:
                expected = int(model.backbone(inputs_embeds=text, use_cache=False).logits[0, -1].argmax())
                assert token == expected
                if token == 2:
                    break
                text = torch.cat((text, model.embed(torch.tensor([[token]]))), 1)


TEXT, NEXT = 18, 4
IDS = torch.randint(3, 60, (2, TEXT + NEXT), generator=torch.Generator().manual_seed(5))
MASK = (torch.arange(TEXT + NEXT)[None] >= torch.tensor([0, 6])[:, None]).long()
POSITIONS = (MASK.cumsum(-1) - 1).clamp_min(0)
ROUND_TRIP = ["llama", "llama_yarn", "qwen2", "qwen3", "gpt_neox", "glm", "gpt2", "llama_dynamic"]


def prefill(model: tf.PreTrainedModel) -> tf.DynamicCache:
    """The model's own cache over the first tokens."""
    with torch.no_grad():
        return model(
            IDS[:, :TEXT], attention_mask=MASK[:, :TEXT], position_ids=POSITIONS[:, :TEXT], use_cache=True
        ).past_key_values


def continued(model: tf.PreTrainedModel, cache: tf.DynamicCache, kept: torch.Tensor) -> torch.Tensor:
    """Logits of the tokens after a cache whose slots are valid where ``kept`` is."""
    mask = torch.cat((kept.long(), MASK[:, TEXT:]), 1)
    with torch.no_grad():
        return model(
            IDS[:, TEXT:], attention_mask=mask, position_ids=POSITIONS[:, TEXT:], past_key_values=cache
        ).logits


@pytest.mark.parametrize("name", ROUND_TRIP)
def test_an_uncompressed_cache_gives_the_same_logits(name: str) -> None:
    """On a second, equal model: dynamic frequencies remember the longest text that was read."""
    usual_model, model = pico.backbone(name), pico.backbone(name)
    usual = continued(usual_model, prefill(usual_model), MASK[:, :TEXT])
    cache = prefill(model)
    keys = cache.layers[0].keys.clone()
    kv = Full().compress(kv_from_cache(cache, model, MASK[:, :TEXT]), slots=5)
    assert torch.equal(cache.layers[0].keys, keys)
    found = continued(model, kv_to_cache(kv, model), kv.layers[0].mask[:, 0])
    torch.testing.assert_close(found, usual, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_compressed_cache_is_the_model_on_the_kept_tokens(name: str) -> None:
    """Right crop of 5: the same keys at the same positions as the original cache's last five."""
    model = pico.backbone(name)
    own, kv = prefill(model), RightCrop().compress(kv_from_cache(prefill(model), model), slots=5)
    cropped = tf.DynamicCache()
    for number, layer in enumerate(own.layers):
        cropped.update(layer.keys[:, :, -5:], layer.values[:, :, -5:], number)
    found = continued(model, kv_to_cache(kv, model), kv.layers[0].mask[:, 0])
    kept = torch.ones(2, 5)
    torch.testing.assert_close(found, continued(model, cropped, kept), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", [method for method in CompressorMethod.__args__ if method is not Full])
def test_every_compressor_works_on_a_cache_of_transformers(method: type) -> None:
    model = pico.backbone("llama")
    kv = kv_from_cache(prefill(model), model, last_ids=IDS[:, TEXT - 3 : TEXT])
    kv = kv.map(tuple(layer.replace(step_end=layer.positions % 3 == 2) for layer in kv.layers))
    settings = {"window": 2} if method.__name__ == "RKVDecode" else {}
    short = method(**settings).compress(kv, slots=4)
    cache = kv_to_cache(short, model)
    assert cache.get_seq_length() == 4
    assert continued(model, cache, short.layers[0].mask[:, 0]).isfinite().all()


def test_the_later_part_of_a_text_is_rotated_from_its_start() -> None:
    """Heads keep different tokens; the cut text of the second sample begins at another position."""
    model = pico.backbone("llama")
    kv = capture_kv(model, IDS[:, :TEXT], MASK[:, :TEXT], tokens=slice(8, None), answer=slice(-2, None))
    kv = RKV(importance_weight=0.5).compress(kv, slots=3)
    cache, own = kv_to_cache(kv, model, start=torch.tensor([8, 2])), prefill(model)
    for number, layer in enumerate(kv.layers):
        index = (layer.positions + 8)[..., None].expand(-1, -1, -1, layer.keys.shape[-1])
        kept = own.layers[number].keys.gather(2, index)
        torch.testing.assert_close(cache.layers[number].keys, kept, rtol=1e-4, atol=1e-5)
    assert not torch.equal(kv.layers[0].positions[:, 0], kv.layers[0].positions[:, 1])


def test_caches_that_are_refused() -> None:
    llama, qwen = pico.backbone("llama"), pico.backbone("qwen3")
    kv = kv_from_cache(prefill(llama), llama)
    with pytest.raises(ValueError, match=r"Layer 0 .* Qwen3ForCausalLM attends to \(2 heads, keys of 16, "):
        kv_from_cache(prefill(llama), qwen)
    with pytest.raises(ValueError, match="The cache is empty"):
        kv_from_cache(tf.DynamicCache(config=llama.config), llama)
    mistral = pico.backbone("mistral")
    with pytest.raises(ValueError, match="MistralForCausalLM attends in sliding windows"):
        kv_from_cache(prefill(mistral), mistral)
    with pytest.raises(ValueError, match=r"holds layers \(0, 1\), but LlamaForCausalLM has \(0, 1, 2\)"):
        kv_to_cache(ModelKV(kv.layers[:2], (0, 1), "two layers"), llama)
    ragged = kv.layers[0].mask.clone()
    ragged[0, 0, 3] = False
    with pytest.raises(ValueError, match="unlike empty slots"):
        kv_to_cache(kv.map((kv.layers[0].replace(mask=ragged), *kv.layers[1:])), llama)
    rope = kv.layers[0].replace(rope=examine(llama).layers[0].rotation.rope())  # pyright: ignore
    with pytest.raises(ValueError, match="kv_to_cache: keys of layer 0 of .* are rotated"):
        kv_to_cache(kv.map((rope, *kv.layers[1:])), llama)
