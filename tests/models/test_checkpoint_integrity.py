"""Weights from disk: complete, whole, and of the model that they were trained on."""

import shutil
from pathlib import Path

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

import pico
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.models.checkpoint_integrity import SAMPLED, fingerprint, read_backbone, same_weights
from pico_tokenizer import word_level

WORDS = [f"w{number}" for number in range(57)]
"""With three special tokens 60: the latent ones need rows that the backbone lacks."""


def save(folder: Path, name: str = "llama", seed: int = 0) -> Path:
    """A pico backbone of 60 rows."""
    config = pico.CONFIGS[name]()
    config.vocab_size = 60
    pico.from_config(config, seed).save_pretrained(folder)
    return folder


def change(folder: Path, kind: str) -> None:
    """Take weights out of a model, rename them, give one another shape, or cut the file."""
    file = folder / "model.safetensors"
    state = load_file(file)
    if kind == "damaged":
        file.write_bytes(file.read_bytes()[:3000])
        return
    first = next(key for key in state if "layers.1" in key)
    if kind == "misshapen":
        state[first] = state[first][:4].clone()
    else:
        gone = {key: state.pop(key) for key in list(state) if "layers.1" in key}
        state |= (
            {key.replace("layers.1", "layers.7"): value for key, value in gone.items()}
            if kind == "renamed"
            else {}
        )
    save_file(state, file, {"format": "pt"})


def adapters(folder: Path, name: str = "llama") -> LatentReasoner:
    """A LoRA student in ``folder``/student on ``folder``/base."""
    backbone = tf.AutoModelForCausalLM.from_pretrained(save(folder / "base", name))
    config = LatentConfig(
        slots=3,
        passes=1,
        lora={"r": 2, "target_modules": "all-linear", "fan_in_fan_out": name == "gpt2"},
        base=str(folder / "base"),
    )
    model = LatentReasoner.build(backbone, word_level(WORDS), config)
    model.save_pretrained(folder / "student")
    return model


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (
            "missing",
            r"^its weights do not fit the LlamaFor\w+ that its .* \(missing model\.layers\.1\.[\w.]+, "
            r"[^;]*\): fetch it again",
        ),
        ("renamed", r"\(missing model\.layers\.1\..*; unexpected model\.layers\.7\.[\w.]+, [^;]*\)"),
        ("misshapen", r"\(of another shape model\.layers\.1\.[\w.]+\)"),
        ("damaged", r"^a file of its weights is damaged \(.*\): fetch it again$"),
    ],
)
def test_no_weight_of_a_backbone_is_made_up(kind: str, told: str, tmp_path: Path) -> None:
    change(save(tmp_path), kind)
    with pytest.raises(ValueError, match=told):
        read_backbone(str(tmp_path))


@pytest.mark.parametrize("name", ["llama_tied", "gpt2", "gpt_neox", "opt"])
def test_tied_heads_and_the_masks_of_older_releases_are_no_misfits(name: str, tmp_path: Path) -> None:
    file = save(tmp_path, name) / "model.safetensors"
    state = load_file(file)
    block = {"gpt2": "transformer.h.0.attn.", "gpt_neox": "gpt_neox.layers.0.attention."}.get(name)
    if block is not None:
        state |= {f"{block}bias": torch.ones(1, 1, 4, 4), f"{block}masked_bias": torch.tensor(-1e4)}
    save_file(
        {key.removeprefix("transformer."): value for key, value in state.items()}, file, {"format": "pt"}
    )
    assert read_backbone(str(tmp_path)).get_input_embeddings().weight.shape[0] == 60


def test_a_head_that_was_not_saved_is_missing(tmp_path: Path) -> None:
    body = tf.AutoModel.from_config(pico.CONFIGS["llama"]())
    body.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"do not fit the LlamaForCausalLM .* \(missing lm_head\.weight\)"):
        read_backbone(str(tmp_path))


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
)
def test_a_checkpoint_that_is_not_whole_names_the_file(file: str, tmp_path: Path) -> None:
    adapters(tmp_path)
    with (tmp_path / "student" / file).open("r+b") as opened:
        opened.truncate(100)
    with pytest.raises(
        ValueError,
        match=rf"student/{file} is damaged \(.*\): delete the checkpoint to go on from the one before it, "
        r"or copy",
    ):
        LatentReasoner.from_pretrained(tmp_path / "student")
    (tmp_path / "student" / file).unlink()
    if (
        file != "tokenizer_config.json"
    ):  # without it there is no tokenizer, and the student says so when it needs one
        with pytest.raises(
            ValueError,
            match=rf"student.* {file}.*delete the checkpoint to go on from the one before it, or copy",
        ):
            LatentReasoner.from_pretrained(tmp_path / "student")


@pytest.mark.parametrize("kind", ["gone", "missing", "damaged"])
def test_a_base_that_cannot_be_read_is_called_the_base(kind: str, tmp_path: Path) -> None:
    adapters(tmp_path)
    if kind == "gone":
        shutil.rmtree(tmp_path / "base")
    else:
        change(tmp_path / "base", kind)
    why = {
        "gone": "there is no such folder",
        "missing": "its weights do not fit the Llama",
        "damaged": r"\S*base/model\.safetensors is damaged",
    }
    with pytest.raises(
        ValueError,
        match=rf"student takes .* its `base`, \S*base, which could not be loaded: {why[kind]}.* Put the "
        r"base mod",
    ):
        LatentReasoner.from_pretrained(tmp_path / "student")


def test_another_base_of_the_same_shape_is_noticed(tmp_path: Path) -> None:
    model = adapters(tmp_path)
    save(tmp_path / "base", seed=1)
    with pytest.raises(
        ValueError,
        match=r"student was trained on other weights than \S*base holds now\. Restore the base model, or "
        r"write",
    ):
        LatentReasoner.from_pretrained(tmp_path / "student")
    LatentReasoner.from_pretrained(tmp_path / "student", dtype=torch.bfloat16)
    model.config.base_fingerprint = None
    model.save_pretrained(tmp_path / "student")
    LatentReasoner.from_pretrained(tmp_path / "student")


def test_a_fingerprint_is_of_the_values_alone() -> None:
    one, other = (torch.nn.Linear(64, 3 * SAMPLED // 64) for _ in range(2))
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(other)
    with torch.no_grad():
        other.weight.mul_(1.01)
    assert not same_weights(fingerprint(one), fingerprint(other))
    assert fingerprint(one.bfloat16()).startswith("bfloat16:")
    assert same_weights(fingerprint(one), fingerprint(other)), "other dtypes cannot be compared"


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gpt2"])
def test_two_loads_are_equal_to_the_last_bit(name: str, tmp_path: Path) -> None:
    """Rows that were added for the latent tokens included."""
    adapters(tmp_path, name)
    one, other = (LatentReasoner.from_pretrained(tmp_path / "student").state_dict() for _ in range(2))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_student_is_no_backbone(tmp_path: Path) -> None:
    """The auto classes load it too, but nothing is built on it."""
    pico.reasoner("llama").save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="it is a latent student, not a causal language model to build one on"
    ):
        read_backbone(str(tmp_path))
