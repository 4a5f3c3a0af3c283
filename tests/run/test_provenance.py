"""What a run says of itself."""

import os
import subprocess
from pathlib import Path

import pytest
import torch

from kvdistill.config import load, resolved
from kvdistill.records.schema import RunRecord
from kvdistill.run.provenance import PACKAGES, hardware, record_of
from pico_runs import toml


def test_a_record_says_how_to_repeat_the_run(tmp_path: Path) -> None:
    config = load(toml(tmp_path), ["--training.seed", "7"])
    record = record_of(config, "2026-01-02T03:04:05+00:00", "kvdistill train --config tiny.toml")
    assert record.config == resolved(config)
    assert (record.seed, record.seconds, record.resumes, record.processes) == (7, None, 0, 1)
    assert record.versions.keys() == {*PACKAGES, "python"}
    assert record.versions["torch"] == torch.__version__
    record.write(tmp_path / "run.json")
    assert RunRecord.read(tmp_path / "run.json") == record


def test_the_commit_is_that_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(toml(tmp_path))
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert record_of(config, "now", None).commit == (asked.stdout.strip() if asked.returncode == 0 else None)
    monkeypatch.setitem(os.environ, "GIT_DIR", str(tmp_path / "nowhere"))
    assert record_of(config, "now", None).commit is None


def test_the_hardware_in_words() -> None:
    assert ("CPU" in hardware()) != torch.cuda.is_available()
