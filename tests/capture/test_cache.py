"""Generation caches: captured keys and values as they are, or the model's own prefill."""

import pytest
import torch
import transformers as tf

import pico
import pico_slow
from kvdistill.capture.cache import captured_cache, prefill_cache
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.generate import generate_ids
from kvdistill.latent.modes import think
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
        past = think(model, pico.batch((row,)))
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
