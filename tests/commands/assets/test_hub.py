import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, hf_hub_download
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from kvdistill.commands.assets import hub as hub_module
from kvdistill.commands.assets.errors import HubError
from kvdistill.commands.assets.hub import (
    Asset,
    download,
    find_data,
    find_model,
    model_files,
    require_space,
)
from kvdistill.data import load
from pico_hub import AUG_ROWS, GSM8K_ROWS, SHA, Hub, put_data, put_model
from pico_tokenizer import word_level

GIB = 2**30


def tiny(folder: Path) -> LlamaForCausalLM:
    """A model and its tokenizer, saved."""
    tokenizer = word_level()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def test_a_model_is_fetched_without_its_duplicates_and_loads(
    local_hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny(local_hub.folder / "models" / "owner" / "tiny")
    put_model(
        local_hub.folder,
        "owner/tiny",
        {"pytorch_model.bin": b"x", "original/params.json": b"x", "a.gguf": b"x", ".gitattributes": b"x"},
    )
    download([find_model("owner/tiny")])
    folder = tmp_path / "cache" / "models--owner--tiny" / "snapshots" / SHA
    said = capsys.readouterr().out
    assert "owner/tiny: 5 files, 0.0 MiB\n" in said
    assert (
        f"owner/tiny is in {folder}\n  Use it: --model_name owner/tiny (on nodes without a network, set "
        "HF_HUB_OFFLINE=1)\n" in said
    )
    assert {path.name for path in folder.iterdir()} == {
        *(
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        )
    }
    ids = torch.arange(4)[None]
    assert torch.equal(
        AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)(ids).logits, model(ids).logits
    )
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == word_level().get_vocab()


def test_what_is_here_is_not_fetched_again(local_hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    put_model(local_hub.folder, "a/b", {"config.json": bytes(2**20), "model.safetensors": bytes(3 * 2**20)})
    hf_hub_download("a/b", "config.json")
    asset = find_model("a/b")
    assert (asset.missing, asset.here) == (3 * 2**20, {"config.json"})
    local_hub.served.clear()
    download([asset])
    assert (
        "a/b: 2 files, 4.0 MiB; 1.0 MiB are here already, and the download resumes\n"
        in capsys.readouterr().out
    )
    assert local_hub.served == ["model.safetensors"]
    download([find_model("a/b")])
    assert "a/b: 2 files, 4.0 MiB; all are here already\n" in capsys.readouterr().out
    assert local_hub.served == ["model.safetensors"]


def test_a_revision_is_used_by_its_folder(local_hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    put_model(local_hub.folder, "a/b", {"model.safetensors": b"x"})
    download([find_model("a/b", SHA)])
    assert (
        f"Use it: --model_name '{constants.HF_HUB_CACHE}/models--a--b/snapshots/{SHA}' ("
        in capsys.readouterr().out
    )


def test_the_weights_are_told_by_their_names() -> None:
    files = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "consolidated.safetensors",
    ]
    files += [
        "model.fp16.safetensors",
        "tokenizer.model",
        "merges.txt",
        "chat_template.jinja",
        "code.py",
        "onnx/config.json",
        "README.md",
    ]
    assert model_files("a/b", files) == [
        *files[:3],
        "tokenizer.model",
        "merges.txt",
        "chat_template.jinja",
        "code.py",
    ]
    with pytest.raises(
        HubError,
        match="a/b has no weights as safetensors, the only form that is loaded here. Choose another model, "
        "or convert",
    ):
        model_files("a/b", ["pytorch_model.bin", "config.json", "onnx/model.safetensors"])


def test_data_are_fetched_counted_and_written(
    local_hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_data(local_hub.folder, "openai/gsm8k", GSM8K_ROWS, ["main", "socratic"], ["train", "test"])
    put_data(local_hub.folder, "whynlp/gsm8k-aug", AUG_ROWS, ["default"], ["train"])
    asset = find_data("openai/gsm8k")
    assert sorted(asset.sizes) == ["main/test-00000-of-00001.parquet", "main/train-00000-of-00001.parquet"]
    download([asset, find_data("whynlp/gsm8k-aug")], tmp_path / "data")
    said = capsys.readouterr().out
    assert "openai/gsm8k is in the cache: train 5 rows, test 4 rows\n" in said
    assert f"4 rows -> {tmp_path}/data/gsm8k_aug_train.jsonl (sha256" in said
    assert [
        len(load(tmp_path / "data" / name).examples)
        for name in ("gsm8k_train.jsonl", "gsm8k_test.jsonl", "gsm8k_aug_train.jsonl")
    ] == [5, 4, 4]
    assert find_data("openai/gsm8k").missing == 0
    assert sorted(find_data("whynlp/gsm8k-aug", "other").sizes) == [
        "README.md",
        "default/train-00000-of-00001.parquet",
    ]


def test_the_disk_is_looked_at_before_anything_is_fetched(
    local_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_model(local_hub.folder, "a/b", {"model.safetensors": b"x"})
    asset = find_model("a/b")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, GIB))
    with pytest.raises(
        HubError,
        match=rf"The disk of {constants.HF_HUB_CACHE} has 1.0 GiB free; 0.0 MiB are still to be fetched",
    ):
        download([asset])
    assert local_hub.served == []


@pytest.mark.parametrize(("free", "fits"), [(20 * 1.05 + 1.001, True), (20 * 1.05 + 0.999, False)])
def test_five_percent_and_one_gib_are_spared(
    monkeypatch: pytest.MonkeyPatch, free: float, fits: bool
) -> None:
    assets = [
        Asset("model", name, None, {"x": 10 * GIB, "y": 5 * GIB}, frozenset({"y"})) for name in ("a/b", "c/d")
    ]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, int(free * GIB)))
    if fits:
        require_space(assets)
        return
    sentence = (
        "has 22.0 GiB free; 20.0 GiB are still to be fetched, which need 22.0 GiB with 5 % and 1 GiB "
        "to spare. Free some space, or"
    )
    with pytest.raises(HubError, match=sentence):
        require_space(assets)


def test_where_nothing_is_missing_a_full_disk_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 0))
    require_space([Asset("model", "a/b", None, {"x": 10}, frozenset({"x"}))])
