"""The manifest's commands for one teacher, typed as they stand there, in a copy of the project called
``quickly check``.

Stood in for are the network (a hub on this machine with a tiny Qwen and a few rows), pip, hf, sbatch, and the
size of the work.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvdistill.records.schema import RunRecord
from kvdistill.reporting.studies.record import ExperimentReport
from pico_hub import hub, put_data, put_model
from pico_project import SBATCH, SYSTEM, put, save_qwen
from pico_python import quick_python

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (".git", ".venv", "outputs", "__pycache__", ".*cache", ".hypothesis", ".coverage*", "*.egg-info")
ROWS = [
    {"question": f"What is {i} + 1?", "answer": f"{i} + 1 = <<{i}+1={i + 1}>>{i + 1}\n#### {i + 1}"}
    for i in range(40)
]
SIZES = {
    **{
        "SEEDS": "0",
        "EPOCHS": "1",
        "SUBSET_SIZE": "16",
        "BATCH_SIZE": "8",
        "GRADIENT_ACCUMULATION": "1",
        "EVAL_STEPS": "1",
        "TEST_SIZE": "2",
    },
    **{"LORA_R": "2", "TARGET_LEN": "2", "NUM_ITERATIONS": "1"},
    "EXTRA_ARGS": "--evaluation.max_new_tokens 4 --evaluation.num 2 --training.tensorboard false",
}
STUDY = ("E1_baseline", "E2_full_kv", "E3_right_crop", "E4_rkv", "E5_shuffled", "direct", "cot")


def commands() -> str:
    """Everything in the section on one teacher that is typed into a shell."""
    manifest = (ROOT / "tests" / "data" / "manifest.txt").read_text(encoding="utf-8")
    section = manifest.split("## 使用流程")[1].split("### 多教师")[0]
    return "".join(re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project, with an environment whose pip installs nothing."""
    root = tmp_path / "quickly check"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*LEFT_OUT))
    put(
        root / ".venv/bin/python",
        f'#!/bin/sh\n[ "$1 $2" != "-m pip" ] || exec echo "$@"\nexec "{tmp_path}/quick/python" "$@"\n',
    )
    put(root / ".venv/bin/pip", f"#!{root}/.venv/bin/python\n")
    return root


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """The programs that a login node has: a Python without packages, hf, sbatch."""
    put(
        tmp_path / "tools" / "python",
        f'#!/bin/sh\nexec "{getattr(sys, "_base_executable", sys.executable)}" "$@"\n',
    )
    put(tmp_path / "tools" / "hf", '#!/bin/sh\necho "$*" >>logs/hf.txt\n')
    put(tmp_path / "tools" / "sbatch", SBATCH)
    return tmp_path / "tools"


@pytest.fixture
def network(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What sends the hub's libraries to a hub that holds the manifest's data set and the models of its size
    and of the scripts'.
    """
    save_qwen(tmp_path / "qwen", [f"{row['question']} {row['answer']}" for row in ROWS])
    files = {path.name: path.read_bytes() for path in (tmp_path / "qwen").iterdir()}
    for name in ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"):
        put_model(tmp_path / "hub", name, files)
    put_data(tmp_path / "hub", "openai/gsm8k", ROWS, ["main", "socratic"], ["train", "test"])
    online = dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"), "0")
    with hub(tmp_path / "hub") as server:
        yield online | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf home")}


def test_the_section_holds_every_step() -> None:
    typed = [line.split()[0] for line in commands().splitlines() if not line.startswith(" ")]
    assert typed == ["cd", "bash", "hf", "python", "sbatch", "sbatch", "python"]


def test_every_command_does_what_it_promises(copy: Path, tools: Path, network: dict[str, str]) -> None:
    script = commands().replace("/path/to/quickly\\ check", str(copy).replace(" ", "\\ "))
    environment = {
        "PATH": f"{tools}:{SYSTEM}",
        "HOME": str(tools),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        **SIZES,
        **network,
    }
    with quick_python(tools.parent / "quick", **network):
        done = subprocess.run(
            ["bash", "-ec", script], env=environment, cwd="/", capture_output=True, text=True, check=False
        )
    logs = [path.read_text(encoding="utf-8") for path in sorted((copy / "logs").glob("kvdistill*.out"))]
    assert done.returncode == 0, "".join([done.stdout, done.stderr, *logs])
    assert re.search(r"^kvdistill itself \.\.\. +ok", done.stdout, flags=re.MULTILINE)
    assert (copy / "logs" / "hf.txt").read_text(encoding="utf-8") == "auth login\n"
    assert "Qwen/Qwen2.5-7B-Instruct is in " in done.stdout
    assert (copy / "data" / "gsm8k_train.jsonl").is_file() and (copy / "data" / "gsm8k_test.jsonl").is_file()
    assert done.stdout.count("Submitted batch job 1\n") == len(logs) == 2
    for name in ("hpc_training", *(f"{experiment}/seed0" for experiment in STUDY)):
        require_run(copy / "outputs" / name)
    text = (copy / "outputs" / "EXPERIMENT_REPORT.txt").read_text(encoding="utf-8")
    assert text in done.stdout and text in "".join(logs)
    (study,) = ExperimentReport.read(copy / "outputs" / "EXPERIMENT_REPORT.json").studies
    assert [claim.outcome for claim in study.claims] == ["inconclusive"] * 3
    assert text.count(": INCONCLUSIVE\n") == 3


def require_run(folder: Path) -> None:
    """The folder holds what the manifest says that each experiment leaves, of the model and data that the
    scripts name.
    """
    assert (folder / "checkpoint-ep1" / "model.safetensors").is_file() or (
        folder / "checkpoint-ep1" / "adapter_model.safetensors"
    ).is_file()
    assert (folder / "training_log.txt").stat().st_size > 0
    assert (folder / "TRAINING_COMPLETED.txt").read_text(encoding="utf-8").startswith("Training completed.\n")
    config = RunRecord.read(folder / "run.json").config
    assert (config["model"]["name"], config["data"]["train"]["name"]) == (
        "Qwen/Qwen2.5-0.5B-Instruct",
        "openai/gsm8k",
    )
