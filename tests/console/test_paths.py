"""``~`` in every path that a user types, and files where folders should be."""

import argparse
from pathlib import Path

import pytest

import pico_runs
from kvdistill.cli import main
from kvdistill.config import load
from kvdistill.console.paths import expanded, path_argument, require_folder

NOBODY = (
    "there is no user 'nobody-here', so ~nobody-here is no home folder. For a file of that name write "
    "./~nobody-here/x."
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_only_a_tilde_in_front_is_expanded(home: Path) -> None:
    assert expanded("~/runs/a") == f"{home}/runs/a"
    assert [expanded(path) for path in ("outputs/run", "a~b", "./~x", "owner/model")] == [
        "outputs/run",
        "a~b",
        "./~x",
        "owner/model",
    ]
    with pytest.raises(ValueError, match=NOBODY):
        expanded("~nobody-here/x")
    with pytest.raises(argparse.ArgumentTypeError, match=NOBODY):
        path_argument("~nobody-here/x")


def test_every_path_of_a_configuration_is_expanded(home: Path) -> None:
    toml = pico_runs.toml(home)
    file = [
        "--data.test.kind",
        "file",
        "--data.test.path",
        "~/rows.jsonl",
        "--model.config",
        "null",
        "--model.name",
        "~/base",
    ]
    config = load(
        "~/tiny.toml",
        [*file, "--training.output_dir=~/runs/a", "--model.tokenizer", "~/t", "--teacher.name", "~/big"],
    )
    assert toml.is_file() and config.teacher is not None
    assert (config.training.output_dir, config.model.name, config.model.tokenizer, config.teacher.name) == (
        f"{home}/runs/a",
        f"{home}/base",
        f"{home}/t",
        f"{home}/big",
    )
    assert config.data.test.path == f"{home}/rows.jsonl"  # pyright: ignore
    with pytest.raises(ValueError, match=r"training\.output_dir: ~nobody-here/x: there is no user"):
        load("~/tiny.toml", ["--training.output_dir", "~nobody-here/x"])


def test_a_run_at_home_is_in_one_folder_and_not_overwritten(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pico_runs.toml(home)
    words = [
        "train",
        "--config",
        "~/tiny.toml",
        "--training.epochs",
        "1",
        "--evaluation.modes",
        "[]",
        "--training.output_dir=~/runs/a",
    ]
    assert main(words) == 0
    assert {path.name for path in (home / "runs" / "a").iterdir()} >= {
        "run.json",
        "checkpoint-ep1",
        "TRAINING_COMPLETED.txt",
        ".lock",
    }
    assert not list(home.parent.glob("~*"))
    before = (home / "runs" / "a" / "checkpoint-ep1" / "model.safetensors").read_bytes()
    assert main([*words, "--training.seed", "5"]) == 2
    assert "already holds a finished run" in capsys.readouterr().err
    assert (home / "runs" / "a" / "checkpoint-ep1" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_is_no_folder_for_results(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    require_folder("--output", tmp_path / "new" / "folder")
    with pytest.raises(ValueError, match=r"--output: .*file is a file; give a folder for the results\."):
        require_folder("--output", tmp_path / place)
    for words in (["demo"], ["evaluate", "--checkpoint", "x", "--data", "y"]):
        assert main([*words, "--output", str(tmp_path / place)]) == 2
        assert f"--output: {tmp_path / 'file'} is a file" in capsys.readouterr().err
