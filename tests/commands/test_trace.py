"""One line a station, from text to loss and back."""

import re
from pathlib import Path
from typing import get_args

import pytest
import torch

from kvdistill.commands.trace import trace
from kvdistill.compress import CompressorMethod, Full
from kvdistill.config.explain import tag_of
from kvdistill.data import Chain, word_tokenizer
from pico_students import save_base

STATIONS = [
    "text",
    "model",
    "capture",
    "step",
    "data",
    "student",
    "teachers",
    "targets",
    "kept",
    "loss",
    "backward",
]
TOML = """
[model]
tuning.kind = "full"
config = {model_type = "gpt2", n_embd = 32, n_layer = 3, n_head = 4, n_positions = 128}
[data.train]
kind = "synthetic"
num = 500
task = {names = 6, steps = 3, trace = "verbose"}
[latent]
slots = 5
passes = 1
[training]
batch_size = 4
"""


@pytest.fixture
def toml(tmp_path: Path) -> str:
    path = tmp_path / "run.toml"
    path.write_text(TOML)
    return str(path)


def stations(text: str) -> dict[str, str]:
    """The lines of each station, with what did not fit on the first one behind it."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        assert len(line) <= 110, line
        if line.startswith(" "):
            text, time, unit = re.fullmatch(r"(.*?)( +[\d.]+)( ms)", found[name]).groups()  # pyright: ignore
            found[name] = f"{text.rstrip()} {line.strip()}{time}{unit}"
        else:
            name = line.split()[0]
            found[name] = line
    return found


def test_the_walk_prints_a_line_a_station_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    loss = trace(None, [])
    text = capsys.readouterr().out
    found = stations(text)
    assert list(found) == STATIONS
    assert all(re.search(r" [\d.]+ ms$", found[name]) for name in STATIONS)
    assert "8 examples" in found["text"]
    assert "4 slots, 2 passes" in found["model"]
    assert "rotary, half_split, 16 of 16 channels" in found["capture"]
    assert "target: rkv, control none" in found["step"]
    assert "own: 2 layers of keys [8, 2, 16, 16]" in found["teachers"]
    assert "2 layers of keys [8, 2, 4, 16]" in found["targets"]
    assert re.search(
        r"step's result: layer 0: [\d.]+ of 4 \(\d+ %\), role entropy [\d.]+ bits; layer 1: ", found["kept"]
    )
    assert f"{float(loss.loss.detach()):.4f} = ce_student" in found["loss"]


def test_overrides_change_the_pico_walk_and_the_run_is_the_same_each_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, other = (
        trace(None, ["--latent.slots", "3", "--training.batch_size=2", "--training.seed", "5"])
        for _ in range(2)
    )
    assert torch.equal(one.loss, other.loss)
    found = stations(capsys.readouterr().out)
    assert "2 examples" in found["text"]
    assert "latent slots 2 layers of keys [2, 2, 3, 16]" in found["student"]


def test_another_kind_of_data_replaces_the_picos(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "Ann to Bob . start Ann 1 hands ?", "answer": "Bob\\n#### Bob"}\n' * 9)
    with pytest.raises(ValueError, match=r"model\.tokenizer is missing"):
        trace(None, ["--data.train.path", str(rows), "--data.train.kind", "file"])
    assert "8 examples; the first: Ann to Bob" in capsys.readouterr().out


def test_a_configuration_is_walked_with_its_own_model(capsys: pytest.CaptureFixture[str], toml: str) -> None:
    loss = trace(toml, ["--loss.kv_weight", "auto"])
    found = stations(capsys.readouterr().out)
    assert list(found) == STATIONS
    assert "4 examples" in found["text"]
    assert "GPT2LMHeadModel" in found["model"]
    assert "3 layers x 4 heads; positions: learned" in found["capture"]
    assert "latent slots 3 layers of keys [4, 4, 5, 8]" in found["student"]
    assert "kv_weight" in found["loss"]
    assert torch.isfinite(loss.loss)


@pytest.mark.parametrize("kind", get_args(CompressorMethod), ids=tag_of)
def test_every_compressor_can_be_walked(capsys: pytest.CaptureFixture[str], kind: type) -> None:
    words = ["--target.method.kind", str(tag_of(kind))]
    words += ["--target.method.window", "2"] if tag_of(kind) == "rkv_decode" else []
    loss = trace(None, words)
    found = stations(capsys.readouterr().out)
    slots = 16 if kind is Full else 4
    assert f"target: {tag_of(kind)}, control none" in found["step"]
    assert found["targets"].split()[1:7] == ["2", "layers", "of", "keys", "[8,", "2,"]
    assert f"[8, 2, {slots}, 16]" in found["targets"]
    assert float(loss.metrics["kv"]) > 0
    kept = {"step_end": "layer 0: 4.0 of 4 (100 %), role entropy 0.0 bits", "full_resampled": "blends tokens"}
    assert kept.get(str(tag_of(kind)), " of ") in found["kept"]
    assert re.search(r"gradients in (\d+) of \1 trained tensors", found["backward"])


@pytest.mark.parametrize("task", ["cot", "direct"])
def test_there_is_no_walk_without_latents(toml: str, task: str) -> None:
    with pytest.raises(
        ValueError,
        match=rf"training\.task is '{task}', so there are no latents to trace\. Set --training\.task "
        r"latent\.",
    ):
        trace(toml, ["--training.task", task])


def test_a_separate_teacher_has_its_stations(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    save_base(
        tmp_path / "big",
        Chain(trace="verbose").words(),
        hidden_size=40,
        num_hidden_layers=3,
        num_attention_heads=5,
        num_key_value_heads=5,
    )
    trace(None, ["--teacher.name", str(tmp_path / "big"), "--training.output_dir", str(tmp_path / "run")])
    found = stations(capsys.readouterr().out)
    after = STATIONS.index("data")
    assert list(found) == [*STATIONS[:after], "align", *STATIONS[after:]]
    assert "an orthogonal map" in found["align"]
    assert "teacher: 3 layers of keys [8, 5, 16, 8]" in found["teachers"]
    assert "beside the student's 2 layers of keys [8, 5, 4, 8]" in found["targets"]
    assert re.search(r"gradients in (\d+) of \1 trained tensors", found["backward"])
    assert not (tmp_path / "run").exists(), "a walk writes nothing"
    trace(None, ["--teacher.name", "nowhere", "--loss.kv_weight", "0"])
    without = [name for name in STATIONS if name not in ("teachers", "targets", "kept")]
    assert list(stations(capsys.readouterr().out)) == without, "without a KV loss no teacher is asked for"


def test_what_a_run_keeps_in_its_folder_is_not_touched(
    capsys: pytest.CaptureFixture[str], toml: str, tmp_path: Path
) -> None:
    rows = [
        f'{{"question": "{"please " * (9 if n == 1 else 0)}Ann to Bob", "answer": "to Bob\\n#### Bob"}}'
        for n in range(3)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join([*rows, '{"question": "?"}']))
    quarantine = tmp_path / "run" / "quarantine_train.jsonl"
    quarantine.parent.mkdir()
    quarantine.write_text("of a run")
    words = [
        "--data.train.kind",
        "file",
        "--data.train.path",
        str(tmp_path / "rows.jsonl"),
        "--data.max_length",
        "17",
    ]
    tokenizer = word_tokenizer(["Ann", "to", "Bob", "please"])
    tokenizer.save_pretrained(tmp_path / "words")
    trace(
        toml,
        [
            *words,
            "--model.tokenizer",
            str(tmp_path / "words"),
            "--training.output_dir",
            str(quarantine.parent),
        ],
    )
    said = capsys.readouterr()
    assert "3 examples" in stations(said.out)["text"]
    assert "2 samples" in stations(said.out)["data"]
    assert "1 of 3 train examples left out" in said.err
    assert quarantine.read_text() == "of a run"
