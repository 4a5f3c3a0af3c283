import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvdistill.data import load
from pico_hub import GSM8K_ROWS, hub, online_environment, put_data, put_model

ROOT = Path(__file__).resolve().parents[2]
TYPED = "scripts/download_assets.py --model Qwen/Qwen2.5-7B-Instruct --dataset openai/gsm8k --export_jsonl"
"""As the manifest has it."""


def start(root: Path, line: str, **environment: str) -> "subprocess.Popen[str]":
    """The script, from the root of its project, with an empty cache."""
    return subprocess.Popen(
        [sys.executable, *shlex.split(line)],
        cwd=root,
        env=online_environment(root / "home", **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background may have Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def run(root: Path, line: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the whole run."""
    process = start(root, line, **environment)
    out, error = process.communicate(timeout=60)
    return process.returncode, out, error


def test_the_line_of_the_manifest_fetches_writes_and_says_where(tree: Path, tmp_path: Path) -> None:
    put_model(
        tmp_path / "hub",
        "Qwen/Qwen2.5-7B-Instruct",
        {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"x"},
    )
    put_data(tmp_path / "hub", "openai/gsm8k", GSM8K_ROWS, ["main", "socratic"], ["train", "test"])
    with hub(tmp_path / "hub") as server:
        code, out, error = run(tree, f"{TYPED} --cache_dir 'my cache'", HF_ENDPOINT=server.url)
    assert code == 0, error
    (folder,) = (tree / "my cache/hub/models--Qwen--Qwen2.5-7B-Instruct/snapshots").iterdir()
    assert f"Qwen/Qwen2.5-7B-Instruct is in {folder}\n" in out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "config.json": b"{}",
        "model.safetensors": b"weights",
    }
    assert len(load(tree / "data/gsm8k_train.jsonl").examples) == 5
    assert len(load(tree / "data/gsm8k_test.jsonl").examples) == 4
    cache = f"HF_HUB_CACHE='{tree}/my cache/hub' HF_DATASETS_CACHE='{tree}/my cache/datasets'"
    assert out.endswith(f"Where these are used, set: export {cache}\n")
    assert list((tree / "my cache/datasets").rglob("*.arrow"))
    assert not (tree / "home/hub").exists(), "nothing goes to the cache that was not chosen"


def test_ctrl_c_stops_at_once_and_the_same_command_goes_on(tree: Path, tmp_path: Path) -> None:
    put_model(tmp_path / "hub", "a/b", {"config.json": bytes(2**20), "model.safetensors": bytes(2**21)})
    line = "scripts/download_assets.py --model a/b"
    with hub(tmp_path / "hub") as server:
        server.stalled.add("model.safetensors")
        process = start(tree, line, HF_ENDPOINT=server.url)
        while "model.safetensors" not in server.served and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "download_assets.py: interrupted by Ctrl-C. To resume, run the same command again" in error
        assert list((tree / "home").rglob("*.incomplete")) == []
        server.stalled.clear()
        code, out, error = run(tree, line, HF_ENDPOINT=server.url)
    assert code == 0, error
    assert "a/b: 2 files, 3.0 MiB; 1.0 MiB are here already, and the download resumes\n" in out
    assert server.served.count("config.json") == 1


def test_offline_is_one_sentence(tree: Path) -> None:
    code, out, error = run(tree, TYPED, HF_HUB_OFFLINE="1")
    assert (code, out) == (2, "")
    assert error.startswith(
        "download_assets.py: Qwen/Qwen2.5-7B-Instruct cannot be fetched: HF_HUB_OFFLINE or "
        "TRANSFORMERS_OFFLINE is set."
    )
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("", "name what to fetch with --model or --dataset"),
        ("--model a/b --export_jsonl", "name a data set with --dataset"),
        (
            "--model a/b c/d --revision v1",
            "--revision belongs to one --model, and 2 are named; run the command once for each",
        ),
        ("--model a/b --dataset_config main", "--dataset_config belongs to one --dataset, and 0 are named"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_loaded(
    tree: Path, options: str, sentence: str
) -> None:
    code, _, error = run(tree, f"scripts/download_assets.py {options}")
    assert code == 2
    assert sentence in error
