"""Adapters and the rows that learn beside them."""

import pytest
import torch

import pico
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import LatentReasoner
from pico_families import build
from pico_tokenizer import word_level
from pico_variants import CASES
from pico_word_students import LORA, NEW, WORDS, lora_for, small, student


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gpt2"])
def test_with_lora_the_new_rows_learn_and_the_others_do_not(name: str) -> None:
    """Under LoRA the embedding is frozen but for the latent tokens, tied or not; one step of descent shows
    which rows move.
    """
    model = student(small(name), lora=lora_for(name), delimiters="both")
    before = model.embed(torch.arange(63)[None])[0].detach().clone()
    two = model(pico.batch(pico.samples(2)))
    (two.teacher.rows.logits.logsumexp(-1).sum() + two.student.rows.logits.square().sum()).backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained.values()
    )
    with torch.no_grad():
        for parameter in trained.values():
            parameter.sub_(parameter.grad)
    moved = (model.embed(torch.arange(63)[None])[0] - before).abs().amax(-1) > 0
    assert moved.nonzero()[:, 0].tolist() == NEW
    assert not any(
        parameter.requires_grad for name, parameter in model.named_parameters() if "base_layer" in name
    )


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gpt2"])
def test_a_new_student_begins_as_its_base(name: str) -> None:
    """B is 0 after everything is built, so that the adapters change nothing yet."""
    base, ids = small(name).eval(), torch.arange(12)[None]
    wanted = base(ids).logits
    config = LatentConfig(slots=3, passes=1, lora=lora_for(name))
    model = LatentReasoner.build(base, word_level(WORDS), config).eval()
    assert any("lora_A" in name and bool(value.any()) for name, value in model.named_parameters())
    torch.testing.assert_close(model.backbone(ids).logits[..., :60], wanted)


def test_lora_leaves_the_towers_for_images_and_sound_alone() -> None:
    backbone = build(next(case for case in CASES if case.family == "phi4_multimodal"))
    model = LatentReasoner.build(
        backbone, word_level(WORDS), LatentConfig(slots=3, passes=1, lora=dict(LORA))
    )
    adapted = [
        name for name, parameter in model.named_parameters() if "lora_" in name and parameter.requires_grad
    ]
    assert any(".layers.0.mlp." in name for name in adapted)
    assert not [name for name in adapted if "image" in name or "audio" in name]


def test_tied_rows_stay_tied_under_lora() -> None:
    model = student(small("llama_tied"), lora=dict(LORA))
    hidden = torch.randn(5, 32)
    table = model.embed(torch.arange(63)[None])[0]
    torch.testing.assert_close(model.head(hidden), hidden @ table.T)


def test_a_head_with_a_bias_takes_no_rows() -> None:
    backbone = small("llama")
    backbone.lm_head = torch.nn.Linear(32, 60)
    with pytest.raises(
        ValueError, match=r"The head of LlamaForCausalLM has a bias, .* train it without LoRA\."
    ):
        LatentReasoner.build(backbone, word_level(WORDS), LatentConfig(slots=3, passes=1, lora=dict(LORA)))
