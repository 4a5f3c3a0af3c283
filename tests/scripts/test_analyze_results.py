"""The script from a shell: a report in a path with a space, and words where there is nothing to report on."""

import subprocess
import sys
from pathlib import Path

from kvdistill.records.schema import EvaluationRecord, RunRecord

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {
    "target": {"method": {"kind": "rkv"}, "control": {"kind": "none"}},
    "loss": {"kv_weight": 0.0, "attention_weight": 0.0},
    "training": {"task": "latent", "epochs": 1.0, "max_steps": -1},
}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "analyze_results.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_study_in_a_path_with_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "quickly check" / "outputs" / "E1_baseline" / "seed0"
    RunRecord(
        config=CONFIG,
        versions={},
        commit=None,
        seed=0,
        hardware="CPU",
        started="2026-01-02T03:04:05",
        seconds=1.0,
    ).write(folder / "run.json")
    counts = {
        "num": 10,
        "correct": 4,
        "sequential_passes_mean": 1.0,
        "tokens_mean": 1.0,
        "ms_batch1": None,
        "ms_batch32": None,
    }
    EvaluationRecord(data_set="test", mode="latent", **counts).write(folder / "evaluation_test_latent.json")
    (folder / "TRAINING_COMPLETED.txt").touch()
    done = run("--output_base", "outputs/", "--delta", "0.03", cwd=tmp_path / "quickly check")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "quickly check" / "outputs" / "EXPERIMENT_REPORT.txt").read_text(encoding="utf-8")
    assert text in done.stdout and "40.0 %" in text and "INCONCLUSIVE" in text and "--delta 0.03" in text
    assert done.stdout.endswith(
        "Written: outputs/EXPERIMENT_REPORT.txt, and beside it the same as .html (with figures) and .json\n"
    )


def test_nothing_to_report_on_is_said_and_exits_2(tmp_path: Path) -> None:
    done = run("--output_base", "nowhere", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr
        == "analyze_results.py: nowhere is no folder: give the one that holds the runs, such as outputs.\n"
    )
