import subprocess
import sys
from pathlib import Path

from kvdistill.data import load
from pico_hub import GSM8K_ROWS, hub, online_environment, put_data

ROOT = Path(__file__).resolve().parents[2]


def run(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script, from another folder, with an empty cache."""
    command = [sys.executable, str(root / "scripts" / "export_gsm8k.py"), *arguments]
    return subprocess.run(
        command,
        cwd=root.parent,
        env=online_environment(root / "home", **environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_options_gsm8k_goes_to_the_data_folder_of_the_project(tree: Path, tmp_path: Path) -> None:
    put_data(tmp_path / "hub", "openai/gsm8k", GSM8K_ROWS, ["main", "socratic"], ["train", "test"])
    with hub(tmp_path / "hub") as server:
        done = run(tree, HF_ENDPOINT=server.url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"5 rows -> {tree}/data/gsm8k_train.jsonl (sha256 ")
    assert lines[1].startswith(f"4 rows -> {tree}/data/gsm8k_test.jsonl (sha256 ")
    assert [
        len(load(tree / "data" / name).examples) for name in ("gsm8k_train.jsonl", "gsm8k_test.jsonl")
    ] == [5, 4]
    again = run(tree, HF_HUB_OFFLINE="1")
    assert (again.returncode, again.stdout.count(", there already")) == (0, 2), (
        "what is in the cache needs no network"
    )


def test_real_rows_of_a_folder_are_written_as_they_are(tree: Path, tmp_path: Path, shared_data: Path) -> None:
    source = tmp_path / "my rows"
    source.mkdir()
    lines = (shared_data / "math/gsm8k/test.jsonl").read_text(encoding="utf-8").split("\n")[:50]
    (source / "test.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = run(
        tree,
        "--dataset_name",
        str(source),
        "--splits",
        "test",
        "--output_dir",
        str(tmp_path / "out"),
        HF_HUB_OFFLINE="1",
    )
    assert done.returncode == 0, done.stderr
    written, given = (
        load(tmp_path / "out" / "my rows_test.jsonl").examples,
        load(source / "test.jsonl").examples,
    )
    assert len(written) == 50
    assert [(one.question, one.steps, one.answer) for one in written] == [
        (one.question, one.steps, one.answer) for one in given
    ]


def test_offline_is_one_sentence(tree: Path) -> None:
    done = run(tree, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "export_gsm8k.py: openai/gsm8k cannot be fetched: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set."
    )
    assert done.stderr.count("\n") == 1
    assert not (tree / "data").exists()
