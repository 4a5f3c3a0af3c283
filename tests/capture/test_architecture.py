"""Models whose captured calls are not their own are refused before anything is trained; what is cheap is
supported.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tf

import pico
from kvdistill.capture.architecture import examine
from kvdistill.capture.attention import CaptureError
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.teacher import CausalLMTeacher

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 64,
}
SHAPE |= {"max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = SHAPE | {"num_key_value_heads": 2}
LATENT_ATTENTION = SHAPE | {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
}
LATENT_ATTENTION |= {
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
}
LATENT_ATTENTION |= {"topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1}
REFUSED: dict[str, tuple[Callable[[], tf.PreTrainedConfig], str]] = {
    "two attentions a layer": (lambda: tf.DiffLlamaConfig(**GROUPED), "attention of layer 0 more than once"),
    "a bias in the mask": (lambda: tf.DogeConfig(**GROUPED), "changes the attention mask"),
    "a convolution": (
        lambda: tf.Lfm2Config(**GROUPED, layer_types=["full_attention", "conv", "full_attention"]),
        r"differ when texts are packed and padded \(relative difference",
    ),
    "both directions": (lambda: tf.BertConfig(**SHAPE), "hidden states differ when texts are packed"),
}
TEACHERS: dict[str, tuple[Callable[[], tf.PreTrainedConfig], str]] = {
    "a head of several layers": (
        lambda: tf.BertConfig(**SHAPE, is_decoder=True),
        "changes its logits around its output embeddings",
    ),
    "a prediction head": (
        lambda: tf.ModernBertDecoderConfig(**SHAPE, local_attention=8, cls_token_id=1, sep_token_id=2),
        "changes its logits around its output embeddings",
    ),
    "positions from 2": (
        lambda: tf.RobertaConfig(**SHAPE | {"pad_token_id": 1}, is_decoder=True),
        "counts its positions from 2",
    ),
}


def student(backbone: tf.PreTrainedModel) -> LatentReasoner:
    config = LatentConfig(backbone=backbone.config, special=dict(pico.SPECIAL), slots=3, passes=2)
    return LatentReasoner(config, backbone).eval()


@pytest.mark.parametrize("what", list(REFUSED))
def test_models_that_are_more_than_their_attention_are_refused_by_name(what: str) -> None:
    make, reason = REFUSED[what]
    backbone = pico.from_config(make())
    with pytest.raises(CaptureError, match=reason):
        CausalLMTeacher(backbone, "it")
    with pytest.raises(CaptureError, match=f"{reason}.*|Choose another architecture"):
        student(backbone).architecture()


@pytest.mark.parametrize("what", list(TEACHERS))
def test_some_can_teach_but_are_no_backbone(what: str) -> None:
    make, reason = TEACHERS[what]
    backbone = pico.from_config(make())
    with pytest.raises(CaptureError, match=f"{reason}.*can teach, but is no backbone of a student"):
        student(backbone).architecture()
    assert len(CausalLMTeacher(backbone, "it").geometry().layers) == 3


def test_a_teacher_that_counts_positions_from_its_padding_reads_as_it_does_alone() -> None:
    """RoBERTa's first position is padding_idx + 1: the first sample's values equal those of the model called
    by itself.
    """
    model = pico.from_config(TEACHERS["positions from 2"][0]())
    row = pico.samples(2)[0]
    teacher = CausalLMTeacher(model, "roberta")
    assert teacher.architecture.position_offset == 2
    kv = teacher.read(pico.batch(pico.samples(2)))
    text = torch.tensor([[*row["question"], *row["cot"], *row["prompt"], *row["answer"]]])
    seen: dict[int, torch.Tensor] = {}
    for number, layer in enumerate(model.roberta.encoder.layer):  # pyright: ignore
        layer.attention.self.value.register_forward_hook(
            lambda _, __, out, number=number: seen.update({number: out})
        )  # pyright: ignore
    with torch.no_grad():
        model(input_ids=text)
    start, stop = len(row["question"]), len(row["question"]) + len(row["cot"])
    for number, layer in enumerate(kv.layers):
        expected = seen[number][0, start:stop].unflatten(-1, (4, 8)).transpose(0, 1)
        found = layer.values[0][layer.mask[0]].unflatten(0, (4, -1))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_model_that_caches_its_latent_vectors_is_prefilled_by_itself() -> None:
    backbone = pico.from_config(tf.DeepseekV3Config(**LATENT_ATTENTION))
    assert student(backbone).architecture().cache_source == "prefill"
    assert student(pico.backbone("llama")).architecture().cache_source == "captured"


def test_errors_of_the_model_become_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    model = pico.backbone("llama")

    def broken(*_: object, **__: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'reshape'\nmore")

    monkeypatch.setattr(model.model.layers[1], "forward", broken)  # pyright: ignore
    with pytest.raises(
        CaptureError,
        match=r"fails in its own code with AttributeError \('NoneType' object has no .*'reshape'\)\. Choose",
    ):
        examine(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_in_half_precision_is_no_difference(dtype: torch.dtype) -> None:
    for name in ("llama", "gpt2", "gemma3"):
        assert student(pico.backbone(name).to(dtype)).architecture().layers  # pyright: ignore


def test_autocast_does_not_reach_the_comparison() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert student(pico.backbone("llama")).architecture().layers
