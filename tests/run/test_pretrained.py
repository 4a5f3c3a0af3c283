"""Tokenizers and backbones by their names, and sentences where something is missing or not allowed."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kvdistill.data import Plain
from kvdistill.run.pretrained import load_backbone, load_tokenizer
from kvdistill.run.step import teachers_of
from kvdistill.run.student import build_student, template_of
from pico_students import TINY, bring_code, config, loss_of, on

SPLIT = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.norm": "cpu",
    "lm_head": "cpu",
}
END = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}


def test_the_embedded_task_brings_its_words_and_those_of_the_prompt() -> None:
    data = {
        "train": {"kind": "synthetic", "task": {"kind": "chain", "names": 5, "steps": 2}},
        "template": {"kind": "plain", "prompt": "and so"},
    }
    tokenizer = load_tokenizer(config(data=data))
    assert (
        tokenizer.unk_token_id
        not in tokenizer("Ann hands Bob . and so Cid", add_special_tokens=False)["input_ids"]
    )
    model = build_student(config(data=data))
    assert template_of(model) == Plain(prompt="and so")


def test_a_new_tokenizer_is_trained_on_the_words_of_task_and_prompt() -> None:
    task = {"kind": "chain", "names": 5, "steps": 2}
    template = {"kind": "plain", "prompt": "answer"}
    data = {"train": {"kind": "synthetic", "num": 4, "task": task}, "template": template}
    new = {"kind": "metaspace_bpe", "vocab": 250}
    model = {"config": TINY, "tuning": {"kind": "full"}, "new_tokenizer": new}
    tokenizer = load_tokenizer(config(model=model, data=data))
    # So large a vocabulary holds every word as one token; of the other names only the letters.
    assert tokenizer.tokenize(" Eve hands answer") == ["▁Eve", "▁hands", "▁answer"]
    assert len(tokenizer.tokenize(" Gus")) > 1
    student = build_student(config(model=model, data=data))
    assert student.backbone.get_input_embeddings().weight.shape[0] >= len(tokenizer) + 3
    assert torch.isfinite(loss_of(student)).all()


def test_a_task_without_a_word_list_asks_for_a_tokenizer() -> None:
    data = {"train": {"kind": "synthetic", "task": {"kind": "arith"}}}
    with pytest.raises(ValueError, match="Arith has no word list.*Name a tokenizer"):
        load_tokenizer(config(data=data))


@pytest.mark.parametrize(
    ("name", "model_type", "special"),
    [("gpt2", "gpt2", END | {"bos_token": "<|endoftext|>"}), ("qwen", "qwen2", END)],
)
def test_real_tokenizers_with_a_small_random_backbone(
    shared_data: Path, name: str, model_type: str, special: dict[str, str]
) -> None:
    path = str(shared_data / "tokenizers" / name / "tokenizer.json")
    small = (
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
        if model_type == "gpt2"
        else {k: TINY[k] for k in TINY}
    )
    model = build_student(
        on({"config": small | {"model_type": model_type}, "tokenizer": path, "special_tokens": special})
    )
    tokenizer = model.tokenizer
    assert tokenizer is not None
    assert (
        tokenizer.pad_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    )
    rows = {tokenizer.convert_tokens_to_ids(token) for token in ("<bot>", "<eot>", "<latent>")}
    assert rows == {model.special.bot, model.special.eot, model.special.latent}
    assert model.backbone.get_input_embeddings().weight.shape[0] >= len(tokenizer) > max(rows)
    assert torch.isfinite(loss_of(model)).all()


@pytest.mark.parametrize(
    ("special", "lacking"),
    [({}, "end-of-sequence"), ({"eos_token": "<|endoftext|>"}, "padding")],
    ids=["neither", "no padding"],
)
def test_a_tokenizer_without_end_or_padding_is_refused(
    shared_data: Path, special: dict[str, str], lacking: str
) -> None:
    path = str(shared_data / "tokenizers" / "gpt2" / "tokenizer.json")
    with pytest.raises(
        ValueError, match=rf"gpt2/tokenizer\.json has no {lacking} token\. Name one .*--model\.special_tokens"
    ):
        load_tokenizer(on({"config": TINY, "tokenizer": path, "special_tokens": special}))


def test_special_tokens_have_to_be_tokens_of_the_tokenizer(base_folder: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"model\.special_tokens: there is no special token 'eos_tokn'\. Did you mean 'eos_token'\?",
    ):
        load_tokenizer(on({"name": str(base_folder), "special_tokens": {"eos_tokn": "Ann"}}))
    with pytest.raises(ValueError, match=r"model\.special_tokens: '<stop>' is no token of"):
        load_tokenizer(on({"name": str(base_folder), "special_tokens": {"eos_token": "<stop>"}}))
    assert (
        load_tokenizer(on({"name": str(base_folder), "special_tokens": {"eos_token": "."}})).eos_token == "."
    )


def test_a_data_file_with_a_new_backbone_needs_a_tokenizer() -> None:
    with pytest.raises(
        ValueError, match=r"model\.tokenizer is missing: a new backbone on a data file needs a tokenizer"
    ):
        build_student(config(data={"train": {"kind": "file", "path": "rows.jsonl"}}))


@pytest.mark.parametrize("name", ["nowhere/tokenizer.json", "nowhere"])
def test_a_tokenizer_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^model\.tokenizer: '{name}' could not be loaded: "):
        load_tokenizer(on({"config": TINY, "tokenizer": name}))


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"^model\.name: 'some/model' could not be loaded: it is neither here nor can it be had",
    ):
        build_student(on({"name": "some/model"}))
    with pytest.raises(ValueError, match=r"^model\.name: .* could not be loaded"):
        build_student(on({"name": str(tmp_path)}))


def test_a_folder_without_weights_is_named(base_folder: Path, tmp_path: Path) -> None:
    for file in base_folder.glob("*.json"):
        shutil.copy(file, tmp_path)
    with pytest.raises(ValueError, match=r"^model\.name: .* could not be loaded"):
        build_student(on({"name": str(tmp_path)}))


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (
            "model.safetensors",
            r"^model\.name: '.*copy' could not be loaded: \S*copy/model\.safetensors is damaged \(.*\): "
            r"fetch it again\.$",
        ),
        ("config.json", r"^model\.name: '.*copy' could not be loaded: \S*copy/config\.json is damaged"),
        ("tokenizer.json", r"^model\.name: '.*copy' could not be loaded: \S*copy/tokenizer\.json is damaged"),
    ],
)
def test_a_damaged_file_is_named(base_folder: Path, file: str, sentence: str, tmp_path: Path) -> None:
    copy = shutil.copytree(base_folder, tmp_path / "copy")
    (copy / file).write_bytes((copy / file).read_bytes()[:200])
    with pytest.raises(ValueError, match=sentence):
        build_student(on({"name": str(copy)}))
    if file == "tokenizer.json":
        with pytest.raises(
            ValueError,
            match=r"^model\.tokenizer: '\S*tokenizer\.json' could not be loaded: \S*tokenizer\.json is "
            r"damaged",
        ):
            load_tokenizer(on({"config": TINY, "tokenizer": str(copy / file)}))


def test_weights_that_are_not_there_are_not_made_up(base_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base_folder, tmp_path / "copy")
    state = load_file(copy / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ValueError,
        match=r"^model\.name: .* do not fit .* \(missing model\.layers\.1\.mlp\.up_proj\.weight\): fetch it "
        r"again",
    ):
        build_student(on({"name": str(copy)}))


def test_a_folder_without_a_tokenizer_is_named(base_folder: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(base_folder, tmp_path / "bare", ignore=shutil.ignore_patterns("token*"))
    with pytest.raises(
        ValueError,
        match=r"^model\.name: \S*bare holds no tokenizer \(.*\): name one with --model\.tokenizer \(folder",
    ):
        build_student(on({"name": str(bare)}))
    assert build_student(on({"name": str(bare), "tokenizer": str(base_folder)})).tokenizer is not None


def test_a_tokenizer_larger_than_the_model_is_refused(base_folder: Path, shared_data: Path) -> None:
    path = str(shared_data / "tokenizers" / "gpt2" / "tokenizer.json")
    with pytest.raises(
        ValueError,
        match=r"^The tokenizer has 5025\d tokens .* but LlamaForCausalLM has embeddings for \d\d: the others",
    ):
        build_student(on({"name": str(base_folder), "tokenizer": path, "special_tokens": END}))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, r"model\.config\.model_type is 'None': give one of transformers', such as 'llama'"),
        ({"model_type": "kvdistill_latent"}, r"model\.config\.model_type is 'kvdistill_latent': give one of"),
        ({"model_type": "lama"}, r"model\.config\.model_type is 'lama': .* Did you mean 'llama'\?"),
        (
            TINY | {"hiden_size": 3},
            r"model\.config: llama has no setting 'hiden_size'\. Did you mean 'hidden_size'\?",
        ),
        (
            {"model_type": "bloom", "n_layer": 1, "hidden_size": 32, "n_head": 2},
            r"Bloom\w+ computes its attention .* cannot be captured",
        ),
        (
            {"model_type": "falcon", "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2},
            r"Falcon\w+ computes its attention",
        ),
    ],
    ids=["none", "student", "misspelt", "misspelt setting", "bloom", "falcon"],
)
def test_backbones_that_cannot_be_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build_student(on({"config": settings}))


def test_settings_by_their_older_names_are_known() -> None:
    tokenizer = load_tokenizer(config())
    model = load_backbone(on({"config": TINY | {"rope_theta": 500.0}}).model, tokenizer)
    assert model.config.rope_parameters["rope_theta"] == 500.0
    gpt2 = load_backbone(
        on({"config": {"model_type": "gpt2", "hidden_size": 32, "num_hidden_layers": 1, "n_head": 2}}).model,
        tokenizer,
    )
    assert gpt2.config.n_embd == 32


@pytest.mark.parametrize("place", ["cpu", {"": "cpu"}])
def test_a_model_is_put_where_it_is_wanted(base_folder: Path, saved: Path, place: Any) -> None:
    for name in (base_folder, saved):
        assert torch.isfinite(loss_of(build_student(on({"name": str(name), "device_map": place})))).all()


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (
            SPLIT | {"model.rotary_emb": "cpu"},
            r"^model\.device_map \{.*\} spreads .*base over cpu, disk, but a training step .* name one ",
        ),
        (
            "balancd",
            r"^model\.device_map is 'balancd', and .*base cannot be put there \(.*\): name one device of "
            r"this machine \(cpu, cuda:0\)",
        ),
        ("cuda:77", r"^model\.device_map is 'cuda:77', and .*base cannot be put there"),
    ],
    ids=["split", "misspelt", "no such device"],
)
def test_other_places_are_refused(base_folder: Path, place: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build_student(on({"name": str(base_folder), "device_map": place}))


def test_code_that_comes_with_a_model_runs_where_it_is_allowed_and_can_be_read_back(
    base_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", list(sys.path))
    own, native = (str(bring_code(base_folder, tmp_path / name, name)) for name in ("own", "llama"))

    def student(name: str, trust: bool) -> Any:
        return build_student(on({"name": name, "trust_remote_code": trust}))

    def teacher(name: str, trust: bool) -> Any:
        run = config(teacher={"name": name, "trust_remote_code": trust})
        return teachers_of(run, build_student(config()))[0]

    for option, load in (("model", student), ("teacher", teacher)):
        with pytest.raises(
            ValueError,
            match=rf"^{option}\.name: .*own brings code of its own, .* say --{option}\.trust_remote_code "
            r"true\.$",
        ):
            load(own, False)
    assert type(teacher(own, True).model).__name__ == "OwnForCausalLM"
    for name, advice in ((own, "choose another model"), (native, "leave --trust_remote_code out")):
        with pytest.raises(
            ValueError,
            match=rf"runs as OwnForCausalLM of its own code, .* read back without: {advice}\. A separate "
            r"teacher",
        ):
            student(name, True)
    assert type(student(native, False).backbone).__name__ == "LlamaForCausalLM"


def test_weights_are_never_unpickled(base_folder: Path, saved: Path, tmp_path: Path) -> None:
    for number, folder in enumerate((base_folder, saved)):
        copy = shutil.copytree(folder, tmp_path / str(number))
        torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
        (copy / "model.safetensors").unlink()
        with pytest.raises((ValueError, OSError), match=r"no file named model\.safetensors"):
            build_student(on({"name": str(copy)}))
