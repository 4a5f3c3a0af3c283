"""The model that users load: built, saved, loaded, and refused in words where something does not fit."""

import shutil
from pathlib import Path

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from torch import Tensor

import pico
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.decode import generate_ids
from kvdistill.latent.reasoner import LatentReasoner
from pico_tokenizer import word_level
from pico_word_students import LORA, NEW, WORDS, lora_for, small, student


@torch.no_grad()
def outputs(model: LatentReasoner) -> list[Tensor]:
    """What both modes give, and answers."""
    two, batch = model(pico.batch(pico.samples(2))), pico.batch(pico.samples(2), "left")
    modes = [
        (mode.rows.logits, mode.hidden, mode.kv.layers[-1].keys, mode.kv.layers[-1].values)
        for mode in (two.teacher, two.student)
    ]
    return [*modes[0], *modes[1], generate_ids(model, batch, "latent", 4)]


def check_same(one: LatentReasoner, other: LatentReasoner) -> None:
    assert all(torch.equal(a, b) for a, b in zip(outputs(one), outputs(other), strict=True))


def with_base(name: str, folder: Path) -> LatentReasoner:
    """A LoRA student whose frozen weights stay in ``folder``/base."""
    small(name).save_pretrained(folder / "base")
    backbone = tf.AutoModelForCausalLM.from_pretrained(folder / "base")
    return student(backbone, lora=lora_for(name), base=str(folder / "base"))


@pytest.mark.parametrize("name", list(pico.CONFIGS))
def test_a_student_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    model = student(small(name))
    model.save_pretrained(tmp_path)
    loaded = LatentReasoner.from_pretrained(tmp_path)
    check_same(model, loaded)
    assert (
        loaded.tokenizer.convert_tokens_to_ids(["<bot>", "<eot>", "<latent>"]) == NEW == list(loaded.special)
    )


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gpt2", "gemma3", "gpt_neox"])
def test_with_lora_on_a_named_base_only_what_was_trained_is_saved(name: str, tmp_path: Path) -> None:
    model = with_base(name, tmp_path)
    model.save_pretrained(tmp_path / "student")
    check_same(model, LatentReasoner.from_pretrained(tmp_path / "student"))
    names = set(load_file(tmp_path / "student" / "model.safetensors"))
    assert names == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(
        "lora_" in name or "trainable_tokens_delta" in name or name.startswith("feedback.") for name in names
    )
    files = (tmp_path / "student" / "model.safetensors", tmp_path / "base" / "model.safetensors")
    assert files[0].stat().st_size < 0.5 * files[1].stat().st_size


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gpt2"])
def test_with_lora_and_no_base_everything_is_saved(name: str, tmp_path: Path) -> None:
    model = student(small(name), lora=lora_for(name))
    model.save_pretrained(tmp_path)
    check_same(model, LatentReasoner.from_pretrained(tmp_path))


@pytest.mark.parametrize("name", ["llama", "llama_tied"])
def test_a_named_base_without_lora(name: str, tmp_path: Path) -> None:
    """All weights are trained, so all are saved; the base gives the architecture."""
    small(name).save_pretrained(tmp_path / "base")
    model = student(tf.AutoModelForCausalLM.from_pretrained(tmp_path / "base"), base=str(tmp_path / "base"))
    model.save_pretrained(tmp_path / "student")
    check_same(model, LatentReasoner.from_pretrained(tmp_path / "student"))


def test_half_precision_comes_back(tmp_path: Path) -> None:
    """With a base in float32: the student's own precision counts."""
    small("llama").save_pretrained(tmp_path / "base")
    backbone = tf.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16)
    model = student(backbone, lora=dict(LORA), base=str(tmp_path / "base"))
    model.save_pretrained(tmp_path / "student")
    loaded = LatentReasoner.from_pretrained(tmp_path / "student")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    check_same(model, loaded)


@pytest.mark.parametrize("base", [True, False])
def test_the_attention_backend_can_be_chosen(base: bool, tmp_path: Path) -> None:
    (with_base("llama", tmp_path) if base else student(small("llama"))).save_pretrained(tmp_path / "student")
    loaded = LatentReasoner.from_pretrained(tmp_path / "student", attn_implementation="eager")
    assert loaded.backbone.config._attn_implementation == "kvdistill_eager"


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gpt2"])
def test_building_adds_tokens_and_starts_the_feedback_at_the_spread_of_the_words(name: str) -> None:
    backbone = small(name)
    rows = backbone.get_input_embeddings().weight.shape[0]
    model = LatentReasoner.build(backbone, word_level(WORDS), LatentConfig(slots=3, passes=1))
    weight = model.backbone.get_input_embeddings().weight
    assert (rows, weight.shape[0], list(model.special)) == (60, 63, NEW)
    assert model.config.backbone.vocab_size == 63
    assert model.config.tie_word_embeddings == (name != "llama")
    assert model.feedback.norm.weight.tolist() == pytest.approx([float(weight.detach().std())] * 32, rel=1e-5)
    assert not model.feedback.norm.bias.any()


def test_tokens_that_are_there_are_not_added_again() -> None:
    tokenizer, backbone = word_level(WORDS), small("llama")
    first = LatentReasoner.build(backbone, tokenizer, LatentConfig(slots=3, passes=1))
    again = LatentReasoner.build(first.backbone, tokenizer, LatentConfig(slots=2, passes=1))
    assert again.special == first.special
    assert again.backbone.get_input_embeddings().weight.shape[0] == 63


def test_embeddings_with_room_to_spare_are_left_alone() -> None:
    model = LatentReasoner.build(pico.backbone("llama"), word_level(WORDS), LatentConfig(slots=3, passes=1))
    assert model.backbone.get_input_embeddings().weight.shape[0] == pico.VOCABULARY


def test_feedback_none_hands_hidden_states_over() -> None:
    model = LatentReasoner.build(
        small("llama"), word_level(WORDS), LatentConfig(slots=3, passes=1, feedback="none")
    )
    hidden = torch.randn(1, 2, 32)
    assert model.feedback(hidden) is hidden


def test_what_the_trainer_reads() -> None:
    assert LatentReasoner.accepts_loss_kwargs is False
    assert LatentReasoner.supports_gradient_checkpointing


def test_the_head_caps_as_the_backbone_does() -> None:
    """Gemma 2 caps at 30: a raw logit of 60 becomes 30 tanh 2 = 28.9208."""
    model = pico.reasoner("gemma2")
    with torch.no_grad():
        model.backbone.lm_head.weight.fill_(60 / 32)
    assert model.head(torch.ones(1, 32))[0, 0].item() == pytest.approx(28.9208, abs=1e-3)


def broken(folder: Path, change: str) -> str:
    """Spoil the weights of a saved student; returns what the message must name."""
    file = folder / "model.safetensors"
    state = load_file(file)
    if change == "missing":
        del state["feedback.up.bias"]
    elif change == "unexpected":
        state["feedback.sideways.bias"] = torch.zeros(32)
    else:
        state["feedback.up.bias"] = torch.zeros(7)
    save_file(state, file, {"format": "pt"})
    return {"unexpected": "unexpected feedback.sideways.bias"}.get(change, f"{change} feedback.up.bias")


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
def test_weights_that_do_not_fit_are_refused(change: str, base: bool, tmp_path: Path) -> None:
    (with_base("llama", tmp_path) if base else student(small("llama"))).save_pretrained(tmp_path / "student")
    names = broken(tmp_path / "student", change)
    with pytest.raises(
        ValueError,
        match=rf"student do not fit .* \({names}\): the checkpoint was written for another backbone, or is "
        r"incompl",
    ):
        LatentReasoner.from_pretrained(tmp_path / "student")


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    student(small("llama")).save_pretrained(tmp_path / "llama")
    student(small("qwen3")).save_pretrained(tmp_path / "qwen3")
    shutil.copy(tmp_path / "qwen3" / "model.safetensors", tmp_path / "llama" / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"do not fit .*unexpected .*k_norm.* was written for another backbone"
    ):
        LatentReasoner.from_pretrained(tmp_path / "llama")


def test_another_base_is_refused(tmp_path: Path) -> None:
    with_base("llama", tmp_path).save_pretrained(tmp_path / "student")
    shutil.rmtree(tmp_path / "base")
    small("qwen2").save_pretrained(tmp_path / "base")
    with pytest.raises(
        ValueError,
        match=r"was trained on a llama of width 32, but .*base now holds a qwen2 of width 32\. Restore the "
        r"base",
    ):
        LatentReasoner.from_pretrained(tmp_path / "student")


def test_a_base_with_fewer_layers_is_refused(tmp_path: Path) -> None:
    with_base("llama", tmp_path).save_pretrained(tmp_path / "student")
    config = small("llama").config
    config.num_hidden_layers = 2
    pico.from_config(config).save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match=r"unexpected backbone\.model\.layers\.2"):
        LatentReasoner.from_pretrained(tmp_path / "student")


def test_a_student_needs_a_backbone() -> None:
    with pytest.raises(
        ValueError, match=r"needs a backbone and its special tokens: build one with LatentReasoner\.build"
    ):
        LatentReasoner(LatentConfig())


def test_backbones_that_cannot_be_packed_are_refused() -> None:
    backbone = pico.backbone("llama", attention="flex_attention")
    with pytest.raises(
        ValueError, match=r"flex_attention attention takes no mask .* attn_implementation='sdpa' or 'eager'\."
    ):
        LatentReasoner(LatentConfig(backbone=backbone.config, special=dict(pico.SPECIAL)), backbone)


def test_backbones_without_the_interface_are_refused() -> None:
    backbone = tf.AutoModelForCausalLM.from_config(
        tf.BloomConfig(hidden_size=32, n_layer=1, n_head=4, vocab_size=60)
    )
    with pytest.raises(ValueError, match="BloomForCausalLM computes its attention by itself"):
        LatentReasoner.build(backbone, word_level(WORDS), LatentConfig(slots=3, passes=1))


@pytest.mark.parametrize("config", [tf.CohereConfig, tf.GraniteConfig])
def test_the_head_scales_as_the_backbone_does(config: type[tf.PreTrainedConfig]) -> None:
    scale = {"logit_scale": 0.5} if config is tf.CohereConfig else {"logits_scaling": 3.0}
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": 64,
    }
    backbone = pico.from_config(config(**shape, **scale, pad_token_id=0, bos_token_id=1, eos_token_id=2))
    model = LatentReasoner(
        LatentConfig(backbone=backbone.config, special=dict(pico.SPECIAL)), backbone
    ).eval()
    ids = torch.arange(3, 13)[None]
    with torch.no_grad():
        own = backbone(input_ids=ids).logits
        torch.testing.assert_close(
            model.head(model.body(input_ids=ids).last_hidden_state[0]), own[0], rtol=1e-5, atol=1e-6
        )
    model(pico.batch(pico.samples(2)))


def test_build_refuses_a_backbone_whose_captured_calls_are_not_its_own() -> None:
    """Before anything is trained: DiffLlama attends twice a layer, so a layer has no single cache."""
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": 64,
    }
    backbone = pico.from_config(
        tf.DiffLlamaConfig(**shape, num_key_value_heads=2, pad_token_id=0, eos_token_id=2)
    )
    with pytest.raises(
        ValueError,
        match=r"DiffLlamaAttention computes the attention of layer 0 more than once .* Choose another",
    ):
        LatentReasoner.build(backbone, word_level(WORDS), LatentConfig(slots=3, passes=1))


def test_encoder_decoders_are_refused() -> None:
    config = tf.T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4, vocab_size=64, decoder_start_token_id=0
    )
    backbone = tf.T5ForConditionalGeneration(config)
    with pytest.raises(
        ValueError,
        match=r"T5ForConditionalGeneration is an encoder-decoder: student and teacher have to be causal "
        r"language models\.",
    ):
        LatentReasoner(LatentConfig(backbone=config, special=dict(pico.SPECIAL)), backbone)
