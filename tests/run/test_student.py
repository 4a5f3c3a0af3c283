"""Students from configurations: new ones, those of a checkpoint, and what may not change between."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

import pico
import pico_tokenizer
from kvdistill.data import Chat, Plain
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.run.student import build_student, resumed_student, template_of
from pico_students import TINY, config, loss_of, on

OTHER_PROMPT = {"train": {"kind": "synthetic"}, "template": {"kind": "plain", "prompt": "so"}}


def test_a_new_student_is_what_the_configuration_says() -> None:
    model = build_student(config(latent={"slots": 5, "passes": 1, "feedback": "none", "delimiters": "both"}))
    assert (model.config.slots, model.config.passes, model.config.delimiters) == (5, 1, "both")
    assert isinstance(model.feedback, nn.Identity)
    assert len(model.geometry().layers) == 2
    assert template_of(model) == Plain()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.config.base is None
    assert not model.config.latents_trained


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_weights_have_the_dtype_that_was_asked_for(dtype: str) -> None:
    model = build_student(on({"config": TINY, "dtype": dtype}))
    assert {str(parameter.dtype) for parameter in model.parameters()} == {f"torch.{dtype}"}
    assert torch.isfinite(loss_of(model)).all()


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_the_attention_backend_is_the_one_asked_for(backend: str) -> None:
    assert build_student(
        on({"config": TINY, "attention": backend})
    ).backbone.config._attn_implementation.endswith(backend)


def test_a_chat_template_is_taken_where_there_is_one(tmp_path: Path) -> None:
    tokenizer = pico_tokenizer.byte_bpe(["Ann hands Bob ."])
    tokenizer.chat_template = pico_tokenizer.CHAT_TEMPLATE
    tokenizer.save_pretrained(tmp_path)
    model = build_student(on({"config": TINY, "tokenizer": str(tmp_path)}))
    assert template_of(model) == Chat()


def test_a_named_model_keeps_its_weights(base_folder: Path) -> None:
    model = build_student(on({"name": str(base_folder)}))
    plain = pico.tf.AutoModelForCausalLM.from_pretrained(base_folder)
    assert torch.equal(
        model.body.layers[0].self_attn.q_proj.weight, plain.model.layers[0].self_attn.q_proj.weight
    )  # pyright: ignore
    known = plain.get_input_embeddings().weight.shape[0]
    assert torch.equal(model.embed(torch.arange(known)[None])[0], plain.get_input_embeddings().weight)


def test_lora_trains_adapters_and_new_rows_and_saves_nothing_else(base_folder: Path, tmp_path: Path) -> None:
    model = build_student(config(model={"name": str(base_folder)}))
    lora = model.config.lora
    assert lora is not None
    assert (lora["r"], lora["lora_alpha"], lora["lora_dropout"]) == (128, 32, 0.1)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(
        "lora_" in name or "trainable_tokens" in name or name.startswith("feedback.") for name in trained
    )
    adapted = {name.split(".")[-4] for name in trained if "lora_A" in name}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    model.save_pretrained(tmp_path / "lora")
    with safe_open(tmp_path / "lora" / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "base_layer" in name]  # noqa: SIM118
    again = LatentReasoner.from_pretrained(tmp_path / "lora")
    assert torch.equal(loss_of(again), loss_of(model))


def test_the_base_of_a_lora_student_is_found_from_anywhere(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base_folder.parent)
    build_student(config(model={"name": "base", "tuning": {"r": 4}})).save_pretrained(tmp_path / "lora")
    monkeypatch.chdir(tmp_path)
    assert LatentReasoner.from_pretrained(tmp_path / "lora").config.base == str(base_folder)


def test_a_saved_student_goes_on_as_it_was(saved: Path) -> None:
    model = build_student(on({"name": str(saved)}))
    assert torch.equal(loss_of(model), loss_of(LatentReasoner.from_pretrained(saved)))
    assert template_of(model) == Plain()


def test_a_run_goes_on_with_the_student_of_its_checkpoint(base_folder: Path, tmp_path: Path) -> None:
    """Whatever its configuration says of the model that it began with."""
    begun = config(model={"name": str(base_folder), "tuning": {"r": 4}, "special_tokens": {"pad_token": "."}})
    model = build_student(begun)
    model.save_pretrained(tmp_path / "checkpoint-ep1")
    assert torch.equal(loss_of(resumed_student(begun, tmp_path / "checkpoint-ep1")), loss_of(model))
    build_student(config()).save_pretrained(tmp_path / "new")
    assert (
        template_of(resumed_student(config(data=OTHER_PROMPT | {"template": None}), tmp_path / "new"))
        == Plain()
    )


def test_a_run_goes_on_with_no_checkpoint_that_is_damaged(saved: Path, tmp_path: Path) -> None:
    """And does not take what is left of it for a model of the hub."""
    copy = shutil.copytree(saved, tmp_path / "checkpoint-ep1")
    (copy / "config.json").write_text('{"model_type":')
    with pytest.raises(
        ValueError,
        match=r"checkpoint-ep1/config\.json is damaged \(.*\): delete the checkpoint to go on from the one "
        r"before",
    ):
        resumed_student(config(), copy)
    (copy / "config.json").unlink()
    with pytest.raises(
        ValueError,
        match=r"checkpoint-ep1 holds no config\.json: .* delete the checkpoint to go on from the one before",
    ):
        resumed_student(config(), copy)


@pytest.mark.parametrize("lora", [True, False])
def test_a_saved_student_is_put_where_it_is_wanted(
    lora: bool, saved: Path, base_folder: Path, tmp_path: Path
) -> None:
    tuning = {"r": 4} if lora else {"kind": "full"}
    if lora:
        build_student(config(model={"name": str(base_folder), "tuning": tuning})).save_pretrained(tmp_path)
    name = str(tmp_path if lora else saved)
    model = build_student(config(model={"name": name, "tuning": tuning, "device_map": "cpu"}))
    assert torch.equal(loss_of(model), loss_of(LatentReasoner.from_pretrained(name)))
    with pytest.raises(
        ValueError,
        match=r"^model\.device_map is 'cuda:77', and .* cannot be put there \(.*\): name one device of this "
        r"machine",
    ):
        build_student(config(model={"name": name, "tuning": tuning, "device_map": "cuda:77"}))


def test_untrained_latents_may_get_another_feedback(saved: Path) -> None:
    """A warm start on chains of thought serves students with any feedback and layout."""
    latent = {"slots": 2, "passes": 3, "feedback": "add", "layout": "blocks"}
    model = build_student(on({"name": str(saved)}, latent=latent))
    assert isinstance(model.feedback, nn.Identity)
    assert (model.config.layout, model.config.feedback) == ("blocks", "add")
    assert torch.isfinite(loss_of(model)).all()


def test_slots_passes_and_delimiters_may_change(saved: Path) -> None:
    model = build_student(on({"name": str(saved)}, latent={"slots": 4, "passes": 1, "delimiters": "both"}))
    assert (model.config.slots, model.config.passes, model.config.delimiters) == (4, 1, "both")
    assert torch.isfinite(loss_of(model)).all()


@pytest.mark.parametrize(
    ("model", "sections", "sentence"),
    [
        (
            {},
            {"latent": {"feedback": "none"}},
            r"saved with latent\.feedback = 'mlp', and cannot go on with 'none': change latent\.feed",
        ),
        (
            {"tuning": {"kind": "lora"}},
            {},
            r"saved with model\.tuning\.kind = 'full', and cannot go on with 'lora'",
        ),
        ({"tokenizer": "gpt2"}, {}, r"saved with model\.tokenizer = None, and cannot go on with 'gpt2'"),
        ({"special_tokens": {"pad_token": "x"}}, {}, r"saved with model\.special_tokens = \{\}"),
        (
            {},
            {"data": OTHER_PROMPT},
            r"saved with data\.template = \{'kind': 'plain', 'prompt': 'The answer is:'\}",
        ),
    ],
    ids=["feedback", "tuning", "tokenizer", "special tokens", "template"],
)
def test_what_the_weights_depend_on_may_not_change(
    saved: Path, tmp_path: Path, model: dict[str, Any], sections: dict[str, Any], sentence: str
) -> None:
    trained = LatentReasoner.from_pretrained(saved)
    trained.config.latents_trained = True
    trained.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        build_student(on({"name": str(tmp_path)} | model, **sections))


def test_a_saved_lora_student_needs_its_own_settings(base_folder: Path, tmp_path: Path) -> None:
    build_student(config(model={"name": str(base_folder), "tuning": {"r": 4}})).save_pretrained(tmp_path)
    again = build_student(config(model={"name": str(tmp_path), "tuning": {"r": 4}}))
    assert again.config.lora is not None
    assert again.config.lora["r"] == 4
    with pytest.raises(ValueError, match=r"saved with model\.tuning = .*'r': 4, .*change model\.tuning"):
        build_student(config(model={"name": str(tmp_path), "tuning": {"r": 8}}))
    with pytest.raises(
        ValueError, match=r"saved with model\.tuning\.kind = 'lora', and cannot go on with 'full'"
    ):
        build_student(on({"name": str(tmp_path)}))
