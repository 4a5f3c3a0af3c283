"""Loading a saved student: edited files are refused, and code beside a checkpoint is never run."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers as tf
from safetensors.torch import load_file, save_file
from transformers import dynamic_module_utils

import pico
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.load import read_config, read_tokenizer
from kvdistill.latent.reasoner import LatentReasoner
from pico_tokenizer import word_level

WORDS = [f"w{number}" for number in range(57)]
CODE = (
    "from pathlib import Path\nPath(__file__).with_name('code_was_run').touch()\nPath({marker!r}).touch()\n"
)


@pytest.fixture(params=["full", "adapters"])
def saved(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A student in ``student``, whose base, where it has one, is in ``base``."""
    config = pico.CONFIGS["llama"]()
    config.vocab_size = 60
    pico.from_config(config).save_pretrained(tmp_path / "base")
    lora = (
        {"lora": {"r": 2, "target_modules": "all-linear"}, "base": str(tmp_path / "base")}
        if request.param == "adapters"
        else {}
    )
    backbone = tf.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    LatentReasoner.build(
        backbone, word_level(WORDS), LatentConfig(slots=3, passes=1, **lora)
    ).save_pretrained(tmp_path / "student")
    return tmp_path / "student"


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


def inside(**settings: Any) -> Callable[[Any], Any]:
    return lambda config: config | {"backbone": config["backbone"] | settings}


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c | {"slots": "two"}, r"latent\.slots is 'two'; it has to be of type int|Type-check"),
        (lambda c: c | {"slots": [2]}, r"latent\.slots is \[2\]|Type-check"),
        (
            lambda c: c | {"special": {}},
            r"special tokens of a latent student are \{\}; give the ids of bot, eot, latent",
        ),
        (lambda c: c | {"more": deep(300)}, "nested more than 100 levels deep"),
        (lambda c: [c], "config.json is damaged"),
        (inside(hidden_size="64"), "config.json is damaged .*hidden_size"),
        (inside(vocab_size=10**9), r"config\.json is damaged: its vocab_size is 1000000000"),
        (inside(num_hidden_layers=10**9), r"config\.json is damaged: its num_hidden_layers is 1000000000"),
    ],
    ids=["slots", "list", "special", "deep", "a list", "hidden", "vocabulary", "layers"],
)
def test_an_edited_configuration_is_refused_by_its_file(
    saved: Path, change: Callable[[Any], Any], told: str
) -> None:
    read_config(saved)
    edit(saved / "config.json", change)
    with pytest.raises(ValueError, match=told) as error:
        LatentReasoner.from_pretrained(saved)
    assert f"{saved / 'config.json'} is damaged" in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(saved: Path, value: float) -> None:
    state = load_file(saved / "model.safetensors")
    name = sorted(state)[0]
    state[name].view(-1)[-1] = value
    save_file(state, saved / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ValueError,
        match=r"The weights in \S+student hold numbers that are not finite \(in \S+\): delete the checkpoint",
    ):
        LatentReasoner.from_pretrained(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pipe_is_refused_and_not_waited_for(saved: Path, name: str) -> None:
    (saved / name).unlink()
    os.mkfifo(saved / name)
    with pytest.raises(ValueError, match=rf"student/{name} is a pipe or a device, not a file"):
        LatentReasoner.from_pretrained(saved)


def test_all_files_of_a_student_have_the_mode_of_a_new_file(saved: Path) -> None:
    (saved / "new").touch()
    assert {file.stat().st_mode for file in saved.iterdir()} == {(saved / "new").stat().st_mode}


def test_a_tokenizer_of_other_types_is_refused(saved: Path) -> None:
    config = read_config(saved)
    assert read_tokenizer(saved, config) is not None
    edit(saved / "tokenizer_config.json", lambda c: dict.fromkeys(c, 3))
    with pytest.raises(ValueError, match=r"The tokenizer in \S+student is not the student's"):
        read_tokenizer(saved, config)


@pytest.mark.parametrize("place", ["tokenizer", "base"])
def test_code_beside_a_checkpoint_is_not_run_even_where_the_answer_is_yes(
    tmp_path: Path,
    saved: Path,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if place == "base" and read_config(saved).base is None:
        pytest.skip("all weights are its own")
    folder, marker = saved if place == "tokenizer" else tmp_path / "base", tmp_path / "marker"
    (folder / "own.py").write_text(CODE.format(marker=str(marker)))
    if place == "tokenizer":
        auto = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
        edit(folder / "tokenizer_config.json", lambda c: c | auto)
    else:
        auto = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
        edit(folder / "config.json", lambda c: c | {"model_type": "own", "auto_map": auto})
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\ny\ny\n"))
    with pytest.raises(ValueError, match="brings code of its own, which is never run"):
        LatentReasoner.from_pretrained(saved)
    assert "Do you wish" not in capsys.readouterr().out
    assert not marker.exists()


def test_folders_without_a_student_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config\.json: give a folder that kvdistill train wrote"):
        LatentReasoner.from_pretrained(tmp_path / "nothing")
    pico.backbone("llama").save_pretrained(tmp_path / "llama")
    with pytest.raises(
        ValueError,
        match=r"llama is not a latent student: its config\.json does not name slots and special tokens\.",
    ):
        LatentReasoner.from_pretrained(tmp_path / "llama")


def test_slots_that_make_no_sense_are_refused_at_loading(saved: Path) -> None:
    edit(saved / "config.json", lambda settings: {**settings, "passes": 9})
    with pytest.raises(ValueError, match=r"latent\.passes is 9 with 3 slots"):
        LatentReasoner.from_pretrained(saved)
