"""The check for GPUs in its reduced form, so that it works the day a GPU is at hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "gpu_check.sh"), *arguments],
        env=os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_part_runs_and_no_figure_fails(tmp_path: Path) -> None:
    done = run("--small", "--output", str(tmp_path / "gpu.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert found["small"]
    for name in ("captured keys and values, bf16", "loss kv, bf16", "FSDP2, gradient norm", "capture, sdpa"):
        assert rows[name]["verdict"] == "ok", rows[name]
        assert 0 <= rows[name]["value"] <= rows[name]["bar"]
    for name in ("step pico, batch 4, kava, over plain", "R-KV, 512 tokens, ms"):
        assert rows[name]["value"] > 0
    for name, row in rows.items():
        assert name in done.stdout
        assert not row["verdict"].startswith("FAIL")


def test_without_a_gpu_it_says_what_to_do(tmp_path: Path) -> None:
    done = run(CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert "this machine has no GPU; --small runs the reduced form on the CPU" in done.stderr
    done = run(PYTHON=str(tmp_path / "python"))
    assert done.returncode == 1
    assert "run bash setup.sh" in done.stderr
