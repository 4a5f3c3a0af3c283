"""What compressors keep of a student with random weights: every case and compressor has its figures."""

import json
import subprocess
import sys
from pathlib import Path

import torch

import pico_students
from kvdistill.run.student import build_student

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "kept.py"


def test_every_case_has_its_figures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = {"train": {"kind": "synthetic", "num": 1, "task": {"kind": "chain", "names": 8}}}
    latent = {"slots": 4, "passes": 4}
    build_student(pico_students.config(data=data, latent=latent)).save_pretrained(tmp_path)
    words = ["--checkpoint", str(tmp_path), "--questions", "16", "--fillers", "repeated"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    accuracy = figures.pop("cot")
    assert list(figures) == list(accuracy)
    assert len(figures) == 3
    for case, found in figures.items():
        assert len(found) == 16
        assert found["step_end"] == [1.0, 0.0], case
        assert found["right_crop"][0] == 0.25, case
        assert found["cosine"] == found["rkv 0 per_head"], "R-KV without importance is redundancy alone"
        assert found["attention"] == found["rkv 1 per_head"], "and with nothing else the attention alone"
    # Uniform hits the step ends where the stride fits; a slot's role changes where traces are not padded.
    assert figures["repeated, 1-4 padded"]["uniform"] == [1.0, 0.0]
    assert figures["repeated, 1-4"]["uniform"][1] == figures["repeated, 1-4"]["right_crop"][1] == 2.0
