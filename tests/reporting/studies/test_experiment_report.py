"""The whole report of studies with everything and with nothing in them."""

from pathlib import Path
from typing import Any

import pytest

from kvdistill.reporting.studies.experiment_report import experiment_report, write_experiment_report
from kvdistill.reporting.studies.record import ExperimentReport

NOISE = (0.0, 0.01, -0.01, 0.005, -0.005, 0.0, 0.01, -0.01)
MEANS = {"E1": 0.4, "E2": 0.6, "E3": 0.5, "E4": 0.61, "E5": 0.4, "direct": 0.2, "CoT": 0.9}
RISES = {"E4": (0.8, 0.95, 0.96, 1.0), "E2": (0.5, 0.3, 0.8, 1.0), "E3": (0.5, 0.3, 0.8, 1.0)}


def test_eight_seeds_of_everything(tmp_path: Path, write_study: Any) -> None:
    base = write_study(
        tmp_path / "outputs", {name: [mean + noise for noise in NOISE] for name, mean in MEANS.items()}, RISES
    )
    path = write_experiment_report(base)
    assert path == base / "EXPERIMENT_REPORT.txt"
    text = path.read_text(encoding="utf-8")
    assert "Study outputs: claim 1 supported, claim 2 supported, claim 3 supported.\n" in text
    titles = [
        line
        for line, under in zip(text.splitlines(), text.splitlines()[1:], strict=False)
        if under and set(under) == {"-"}
    ]
    assert titles[:4] == ["What ran", "Accuracy", "Weights and last losses", "Training curves"]
    assert titles[4] == "How often and how soon"
    assert titles[5] == "Claim 1. Compression keeps the supervision: SUPPORTED"
    assert titles[-3:] == ["The shuffled control", "Warnings", "How it was made"]
    assert f"python scripts/analyze_results.py --output_base {base} --delta 0.02" in text
    tables = [line for line in text.splitlines() if str(base) not in line]
    assert max(map(len, tables)) <= 100 and "\N{NO-BREAK SPACE}" not in text
    record = ExperimentReport.read(base / "EXPERIMENT_REPORT.json")
    assert record == experiment_report(base) and record.studies[0].claims[0].outcome == "supported"
    html = (base / "EXPERIMENT_REPORT.html").read_text(encoding="utf-8")
    assert (
        html.count("<figure>") == 3
        and "<h2>Claim 2. KV alignment adds to latent supervision: SUPPORTED</h2>" in html
    )


def test_several_studies_stand_in_one_report(tmp_path: Path, write_study: Any, write_run: Any) -> None:
    write_study(tmp_path / "llama", {"E1": [0.4]})
    write_study(tmp_path / "qwen", {"E1": [0.4, 0.5], "E2": [0.6, 0.7]})
    write_run(tmp_path / "demo", "E1", 0.5, seed=0)
    text = write_experiment_report(tmp_path, 0.05).read_text(encoding="utf-8")
    assert text.count("llama: What ran") == text.count("qwen: What ran") == 1
    assert "Not part of a study\n-------------------\n\ndemo\n" in text and "--delta 0.05" in text
    assert sorted(path.name for path in (tmp_path / "figures").iterdir())[:3] == [
        "study1_accuracy-narrow.svg",
        "study1_accuracy.svg",
        "study1_curves-narrow.svg",
    ]
    assert ExperimentReport.read(tmp_path / "EXPERIMENT_REPORT.json").delta == 0.05


def test_a_report_is_written_again_over_the_last(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path, {"E1": [0.4]})
    first = write_experiment_report(tmp_path).read_text()
    assert write_experiment_report(tmp_path).read_text() == first
    write_study(tmp_path, {"E1": [0.4, 0.5]})
    assert write_experiment_report(tmp_path).read_text() != first


def test_unlike_runs_are_said_at_the_top(tmp_path: Path, write_study: Any, write_run: Any) -> None:
    write_study(tmp_path, {"E1": [0.4]})
    write_run(tmp_path / "E4" / "seed0", "E4", 0.5, training__lr=0.5)
    lead = " ".join(write_experiment_report(tmp_path).read_text().split("\n\n")[1].split())
    assert lead.endswith("claim 3 inconclusive, resting on unlike runs.")


def test_nothing_to_report_on_is_said(tmp_path: Path, write_run: Any) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"holds no run of a study, which is a folder with a run in <experiment>/seed<number>",
    ):
        write_experiment_report(tmp_path)
    write_run(tmp_path / "demo", "E1", 0.5, seed=0)
    with pytest.raises(
        FileNotFoundError, match=r"such as E4_rkv/seed0. Other files there belong to no study: demo."
    ):
        write_experiment_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_a_delta_of_nothing_is_refused(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path, {"E1": [0.4]})
    with pytest.raises(ValueError, match="Give the smallest difference that matters, above 0."):
        write_experiment_report(tmp_path, 0.0)
    assert not (tmp_path / "EXPERIMENT_REPORT.txt").exists()
