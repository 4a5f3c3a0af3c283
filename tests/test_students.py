"""From a configuration to a student: tokenizers, backbones, LoRA, saved students, and sentences where something is missing."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

import pico
import pico_tokenizer
from kvdistill.config import RunConfig, parse
from kvdistill.data import Chain, Chat, Plain, collate, encode_all
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.students import build_student, load_backbone, load_tokenizer, template_of

TINY = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
TINY |= {"intermediate_size": 48, "max_position_embeddings": 128}
TASK = Chain(names=5, steps=2)
END = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}


def config(**sections: Any) -> RunConfig:
    model = {"config": TINY, "tuning": {"kind": "full"}}
    data = {"train": {"kind": "synthetic", "num": 4, "task": {"names": 5, "steps": 2}}}
    return parse({"model": model, "data": data, "latent": {"slots": 3, "passes": 2}} | sections, "a test")


def on(model: dict[str, Any], **sections: Any) -> RunConfig:
    return config(model={"tuning": {"kind": "full"}} | model, **sections)


def loss_of(model: LatentReasoner) -> torch.Tensor:
    assert model.tokenizer is not None
    samples = encode_all(TASK.make(3, "train", 0), model.tokenizer, template_of(model)).samples
    two = model.eval()(collate(samples, pad_id=model.tokenizer.pad_token_id))  # pyright: ignore
    return torch.cat((two.teacher.rows.logits.flatten(), two.student.rows.logits.flatten(), two.student.kv.layers[-1].keys.flatten()))


@pytest.fixture(scope="module")
def base_folder(session_tmp: Path) -> Path:
    """A model as it comes from the hub: a backbone with its tokenizer, nothing of this project."""
    folder = session_tmp / "base"
    tokenizer = pico_tokenizer.word_level(TASK.words())
    settings = TINY | {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    pico.from_config(pico.tf.LlamaConfig(**{k: v for k, v in settings.items() if k != "model_type"})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def saved(session_tmp: Path) -> Path:
    """A saved student of 3 slots and 2 passes, all weights trained."""
    folder = session_tmp / "student"
    torch.manual_seed(3)
    build_student(config()).save_pretrained(folder)
    return folder


# New students.


def test_a_new_student_is_what_the_configuration_says() -> None:
    model = build_student(config(latent={"slots": 5, "passes": 1, "feedback": "none", "delimiters": "both"}))
    assert (model.config.slots, model.config.passes, model.config.delimiters) == (5, 1, "both")
    assert isinstance(model.feedback, nn.Identity)
    assert len(model.geometry().layers) == 2
    assert template_of(model) == Plain()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.config.base is None
    assert not model.config.taught
    assert not model.want_attention
    assert build_student(config(loss={"attention_weight": 0.1})).want_attention


def test_the_embedded_task_brings_its_words_and_those_of_the_prompt() -> None:
    data = {
        "train": {"kind": "synthetic", "task": {"kind": "chain", "names": 5, "steps": 2}},
        "template": {"kind": "plain", "prompt": "and so"},
    }
    tokenizer = load_tokenizer(config(data=data))
    assert tokenizer.unk_token_id not in tokenizer("Ann hands Bob . and so Cid", add_special_tokens=False)["input_ids"]
    model = build_student(config(data=data))
    assert template_of(model) == Plain(prompt="and so")


def test_a_task_without_a_word_list_asks_for_a_tokenizer() -> None:
    data = {"train": {"kind": "synthetic", "task": {"kind": "arith"}}}
    with pytest.raises(ValueError, match="Arith has no word list.*Name a tokenizer"):
        load_tokenizer(config(data=data))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_weights_have_the_dtype_that_was_asked_for(dtype: str) -> None:
    model = build_student(on({"config": TINY, "dtype": dtype}))
    assert {str(parameter.dtype) for parameter in model.parameters()} == {f"torch.{dtype}"}
    assert torch.isfinite(loss_of(model)).all()


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_the_attention_backend_is_the_one_asked_for(backend: str) -> None:
    assert build_student(on({"config": TINY, "attention": backend})).backbone.config._attn_implementation.endswith(backend)


# Tokenizers.


@pytest.mark.parametrize(
    ("name", "model_type", "special"),
    [("gpt2", "gpt2", END | {"bos_token": "<|endoftext|>"}), ("qwen", "qwen2", END)],
)
def test_real_tokenizers_with_a_small_random_backbone(shared_data: Path, name: str, model_type: str, special: dict[str, str]) -> None:
    path = str(shared_data / "tokenizers" / name / "tokenizer.json")
    small = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128} if model_type == "gpt2" else {k: TINY[k] for k in TINY}
    model = build_student(on({"config": small | {"model_type": model_type}, "tokenizer": path, "special_tokens": special}))
    tokenizer = model.tokenizer
    assert tokenizer is not None
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    rows = {tokenizer.convert_tokens_to_ids(token) for token in ("<bot>", "<eot>", "<latent>")}
    assert rows == {model.special.bot, model.special.eot, model.special.latent}
    assert model.backbone.get_input_embeddings().weight.shape[0] >= len(tokenizer) > max(rows)  # pyright: ignore
    assert torch.isfinite(loss_of(model)).all()


@pytest.mark.parametrize(
    ("special", "lacking"), [({}, "end-of-sequence"), ({"eos_token": "<|endoftext|>"}, "padding")], ids=["neither", "no padding"]
)
def test_a_tokenizer_without_end_or_padding_is_refused(shared_data: Path, special: dict[str, str], lacking: str) -> None:
    path = str(shared_data / "tokenizers" / "gpt2" / "tokenizer.json")
    with pytest.raises(ValueError, match=rf"gpt2/tokenizer\.json has no {lacking} token\. Name one .*--model\.special_tokens"):
        load_tokenizer(on({"config": TINY, "tokenizer": path, "special_tokens": special}))


def test_special_tokens_have_to_be_tokens_of_the_tokenizer(base_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.special_tokens: there is no special token 'eos_tokn'\. Did you mean 'eos_token'\?"):
        load_tokenizer(on({"name": str(base_folder), "special_tokens": {"eos_tokn": "Ann"}}))
    with pytest.raises(ValueError, match=r"model\.special_tokens: '<stop>' is no token of"):
        load_tokenizer(on({"name": str(base_folder), "special_tokens": {"eos_token": "<stop>"}}))
    assert load_tokenizer(on({"name": str(base_folder), "special_tokens": {"eos_token": "."}})).eos_token == "."


def test_a_data_file_with_a_new_backbone_needs_a_tokenizer() -> None:
    with pytest.raises(ValueError, match=r"model\.tokenizer is missing: a new backbone on a data file needs a tokenizer"):
        build_student(config(data={"train": {"kind": "file", "path": "rows.jsonl"}}))


@pytest.mark.parametrize("name", ["nowhere/tokenizer.json", "nowhere"])
def test_a_tokenizer_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^model\.tokenizer: '{name}' could not be loaded: "):
        load_tokenizer(on({"config": TINY, "tokenizer": name}))


def test_a_chat_template_is_taken_where_there_is_one(tmp_path: Path) -> None:
    tokenizer = pico_tokenizer.byte_bpe(["Ann hands Bob ."])
    tokenizer.chat_template = pico_tokenizer.CHAT_TEMPLATE
    tokenizer.save_pretrained(tmp_path)
    model = build_student(on({"config": TINY, "tokenizer": str(tmp_path)}))
    assert template_of(model) == Chat()


# Backbones.


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^model\.name: 'some/model' could not be loaded: it is neither here nor can it be had"):
        build_student(on({"name": "some/model"}))
    with pytest.raises(ValueError, match=r"^model\.name: .* could not be loaded"):
        build_student(on({"name": str(tmp_path)}))


def test_a_folder_without_weights_is_named(base_folder: Path, tmp_path: Path) -> None:
    for file in base_folder.glob("*.json"):
        shutil.copy(file, tmp_path)
    with pytest.raises(ValueError, match=r"^model\.name: .* could not be loaded"):
        build_student(on({"name": str(tmp_path)}))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, r"model\.config\.model_type is 'None': give one of transformers', such as 'llama'"),
        ({"model_type": "lama"}, r"model\.config\.model_type is 'lama': .* Did you mean 'llama'\?"),
        (TINY | {"hiden_size": 3}, r"model\.config: llama has no setting 'hiden_size'\. Did you mean 'hidden_size'\?"),
        (
            {"model_type": "bloom", "n_layer": 1, "hidden_size": 32, "n_head": 2},
            r"Bloom\w+ computes its attention by itself .* cannot be captured",
        ),
        (
            {"model_type": "falcon", "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2},
            r"Falcon\w+ computes its attention",
        ),
    ],
    ids=["none", "misspelt", "misspelt setting", "bloom", "falcon"],
)
def test_backbones_that_cannot_be_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build_student(on({"config": settings}))


def test_settings_by_their_older_names_are_known() -> None:
    tokenizer = load_tokenizer(config())
    model = load_backbone(on({"config": TINY | {"rope_theta": 500.0}}).model, tokenizer)
    assert model.config.rope_parameters["rope_theta"] == 500.0
    gpt2 = load_backbone(on({"config": {"model_type": "gpt2", "hidden_size": 32, "num_hidden_layers": 1, "n_head": 2}}).model, tokenizer)
    assert gpt2.config.n_embd == 32


def test_a_named_model_keeps_its_weights(base_folder: Path) -> None:
    model = build_student(on({"name": str(base_folder)}))
    plain = pico.tf.AutoModelForCausalLM.from_pretrained(base_folder)
    assert torch.equal(model.body.layers[0].self_attn.q_proj.weight, plain.model.layers[0].self_attn.q_proj.weight)  # pyright: ignore
    known = plain.get_input_embeddings().weight.shape[0]
    assert torch.equal(model.embed(torch.arange(known)[None])[0], plain.get_input_embeddings().weight)


# LoRA, with the published defaults.


def test_lora_trains_adapters_and_new_rows_and_saves_nothing_else(base_folder: Path, tmp_path: Path) -> None:
    model = build_student(config(model={"name": str(base_folder)}))
    lora = model.config.lora
    assert lora is not None
    assert (lora["r"], lora["lora_alpha"], lora["lora_dropout"]) == (128, 32, 0.1)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name or "trainable_tokens" in name or name.startswith("feedback.") for name in trained)
    adapted = {name.split(".")[-4] for name in trained if "lora_A" in name}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    model.save_pretrained(tmp_path / "lora")
    with safe_open(tmp_path / "lora" / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "base_layer" in name]  # noqa: SIM118
    again = LatentReasoner.from_pretrained(tmp_path / "lora")
    assert torch.equal(loss_of(again), loss_of(model))


def test_the_base_of_a_lora_student_is_found_from_anywhere(base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base_folder.parent)
    build_student(config(model={"name": "base", "tuning": {"r": 4}})).save_pretrained(tmp_path / "lora")
    monkeypatch.chdir(tmp_path)
    assert LatentReasoner.from_pretrained(tmp_path / "lora").config.base == str(base_folder)


# Saved students.


def test_a_saved_student_goes_on_as_it_was(saved: Path) -> None:
    model = build_student(on({"name": str(saved)}))
    assert torch.equal(loss_of(model), loss_of(LatentReasoner.from_pretrained(saved)))
    assert template_of(model) == Plain()


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
            r"saved with latent\.feedback = 'mlp', and cannot go on with 'none': change latent\.feedback",
        ),
        ({"tuning": {"kind": "lora"}}, {}, r"saved with model\.tuning\.kind = 'full', and cannot go on with 'lora'"),
        ({"tokenizer": "gpt2"}, {}, r"saved with model\.tokenizer = None, and cannot go on with 'gpt2'"),
        ({"special_tokens": {"pad_token": "x"}}, {}, r"saved with model\.special_tokens = \{\}"),
        (
            {},
            {"data": {"train": {"kind": "synthetic"}, "template": {"kind": "plain", "prompt": "so"}}},
            r"saved with data\.template = \{'kind': 'plain', 'prompt': 'The answer is:'\}",
        ),
    ],
    ids=["feedback", "tuning", "tokenizer", "special tokens", "template"],
)
def test_what_the_weights_depend_on_may_not_change(saved: Path, model: dict[str, Any], sections: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build_student(on({"name": str(saved)} | model, **sections))


def test_a_saved_lora_student_needs_its_own_settings(base_folder: Path, tmp_path: Path) -> None:
    build_student(config(model={"name": str(base_folder), "tuning": {"r": 4}})).save_pretrained(tmp_path)
    again = build_student(config(model={"name": str(tmp_path), "tuning": {"r": 4}}))
    assert again.config.lora is not None
    assert again.config.lora["r"] == 4
    with pytest.raises(ValueError, match=r"saved with model\.tuning = .*'r': 4, .*change model\.tuning"):
        build_student(config(model={"name": str(tmp_path), "tuning": {"r": 8}}))
    with pytest.raises(ValueError, match=r"saved with model\.tuning\.kind = 'lora', and cannot go on with 'full'"):
        build_student(on({"name": str(tmp_path)}))
