"""Every number of a study, by hand; and the file reads back as it was written."""

import json
from pathlib import Path
from typing import Any

import pytest

from kvdistill.records.schema import Curve
from kvdistill.reporting.studies.experiments import discover
from kvdistill.reporting.studies.record import (
    ExperimentReport,
    StudyRecord,
    deltas,
    steps_to_90,
    summarise,
)


def record(folder: Path) -> StudyRecord:
    return summarise(discover(folder).studies[0], 0.02)


def test_rows_hold_what_was_measured(tmp_path: Path, write_study: Any, write_run: Any) -> None:
    write_study(tmp_path, {"E1": [0.4, 0.5], "E2": [0.6, 0.62, 0.7]}, {"E2": (0.5, 0.25, 0.95, 1.0)})
    write_run(tmp_path / "E2" / "seed8", "E2", None)
    write_run(tmp_path / "mean" / "seed0", "E4", 0.3, target__control={"kind": "mean_target"})
    study = record(tmp_path)
    assert [row.experiment for row in study.rows] == [
        "E1",
        "E2",
        "E3",
        "E4",
        "E5",
        "direct",
        "CoT",
        "rkv, mean_target",
    ]
    full, none = study.row("E2"), study.row("E4")
    assert full.seeds == [0, 1, 2] and full.unfinished == [8] and none.seeds == [] and none.measures == {}
    # E1 has no seed 2.
    assert full.measures["difference_to_e1"].by_seed == pytest.approx({0: 0.2, 1: 0.12})
    assert full.measures["steps_to_90"].by_seed == {0: 300.0, 1: 300.0, 2: 300.0}
    # Trapezoids over 100..400 of 0.3, 0.15, 0.57, 0.6; one fall from 0.3 to 0.15.
    assert full.measures["area"].by_seed[0] == pytest.approx((0.225 + 0.36 + 0.585) / 3)
    assert full.measures["roughness"].by_seed[0] == pytest.approx(0.15)
    assert (
        full.measures["kv_weight"].by_seed == {0: 2.0, 1: 2.01, 2: 2.02}
        and full.measures["kv_lower_bound"].mean == 0.125
    )
    assert full.spread == pytest.approx(0.0529150) and full.curves[1].steps == [100, 200, 300, 400]
    assert study.row("rkv, mean_target").what == "in no claim"
    assert {line.folder: line.state for line in study.runs}["E2/seed8"] == "unfinished"


def test_log_probabilities_are_paired_with_e1(tmp_path: Path, write_run: Any) -> None:
    for seed, nats in enumerate((-2.0, -1.0)):
        write_run(tmp_path / "E1" / f"seed{seed}", "E1", 0.4, measured={"nats": nats})
    write_run(tmp_path / "E4" / "seed0", "E4", 0.6, measured={"nats": -0.5})
    write_run(tmp_path / "E4" / "seed2", "E4", 0.6)  # of an older version
    study = record(tmp_path)
    assert study.row("E1").measures["nats"].by_seed == {0: -2.0, 1: -1.0}
    assert study.row("E4").measures["nats"].by_seed == {0: -0.5}
    assert study.row("E4").measures["nats_difference_to_e1"].by_seed == {0: 1.5}
    assert "nats_difference_to_e1" not in study.row("E1").measures


def test_a_report_of_an_earlier_version_is_read(tmp_path: Path, write_study: Any) -> None:
    study = record(write_study(tmp_path / "runs", {"E1": [0.4, 0.5], "E4": [0.6, 0.7]}))
    path = tmp_path / "EXPERIMENT_REPORT.json"
    ExperimentReport(delta=0.02, studies=[study], others=[]).write(path)
    document = json.loads(path.read_text())
    for name in ("goal", "learning"):
        del document["studies"][0][name]
    for claim in document["studies"][0]["claims"]:
        for comparison in claim["comparisons"]:
            comparison.pop("detectable", None)
    path.write_text(json.dumps(document))
    (old,) = ExperimentReport.read(path).studies
    assert (old.goal, old.learning, old.by_depth) == (None, None, None)
    assert old.rows == study.rows


def test_a_run_that_ends_at_nothing_never_got_anywhere() -> None:
    assert steps_to_90(Curve(method="E1", steps=[10, 20, 30], accuracy=[0.2, 0.1, 0.0])) == 30
    assert steps_to_90(Curve(method="E1", steps=[10, 20, 30], accuracy=[0.2, 0.95, 1.0])) == 20


def test_where_the_teacher_cannot_reason_it_is_said(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path / "a", {"E1": [0.2], "direct": [0.14, 0.15], "CoT": [0.15, 0.16]})
    write_study(tmp_path / "b", {"E1": [0.2], "direct": [0.14, 0.15], "CoT": [0.9, 0.16]})
    write_study(tmp_path / "c", {"E1": [0.2], "direct": [0.14, 0.15], "CoT": [0.9, 0.18]})
    said = (
        "In seed {} the chain of thought answers {} % right and a direct answer {} %: there is "
        "nothing to distil"
    )
    assert record(tmp_path / "a").warnings[0].startswith(said.format("0–1", 15.5, 14.5))
    assert record(tmp_path / "b").warnings[0].startswith(said.format("1", "16.0", "15.0"))
    assert not any("nothing to distil" in line for line in record(tmp_path / "c").warnings)


def test_two_evaluations_are_no_curve(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path, {"E2": [0.4, 0.5], "E4": [0.5, 0.6], "E3": [0.5, 0.6]}, {"E2": (0.5, 1.0)})
    study = record(tmp_path)
    assert "area" not in study.row("E2").measures and "area" in study.row("E4").measures
    assert study.claims[2].waits_for == ["E2"]


def test_deltas_are_points_and_one_evaluation_interval(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path, {"E1": [0.5]})
    runs = discover(tmp_path).studies[0].runs
    assert deltas(runs, 0.03) == {"accuracy": 0.03, "area": 0.03, "roughness": 0.03, "steps_to_90": 100.0}
    assert deltas([], 0.03)["steps_to_90"] == 1.0
    assert summarise(discover(tmp_path).studies[0], 0.03).claims[2].comparisons[0].delta == 0.03


def test_the_spread_is_tested_from_twenty_seeds_on(tmp_path: Path, write_study: Any) -> None:
    wild = [0.5 + 0.1 * (seed % 3 - 1) for seed in range(20)]
    calm = [0.5 + 0.01 * (seed % 4) for seed in range(20)]
    write_study(tmp_path / "a", {"E2": wild, "E4": calm, "E3": wild[:19]})
    study = record(tmp_path / "a")
    assert list(study.less_spread) == ["E2"] and study.less_spread["E2"] < 0.001


def test_unlike_runs_and_other_code_are_warned_of(tmp_path: Path, write_run: Any) -> None:
    write_run(tmp_path / "E1" / "seed0", "E1", 0.4)
    write_run(
        tmp_path / "step_end" / "seed0", "E4", 0.4, target__method={"kind": "step_end"}, training__lr=0.1
    )
    study = record(tmp_path)
    # A run in no claim is warned of, and no verdict rests on it.
    assert study.warnings == ["training.lr: 0.001 in E1; 0.1 in step_end."] and not study.unlike
    folder = write_run(tmp_path / "E4" / "seed0", "E4", 0.4, training__lr=0.2)
    (folder / "run.json").write_text((folder / "run.json").read_text().replace("0123abc", "9876fed"))
    study = record(tmp_path)
    assert study.unlike and study.warnings[-1] == (
        "Not all runs were made by the same code: 0123abc (kvdistill 0.1.0, python 3.11.7) made E1/seed0, "
        "step_end/seed0; "
        "9876fed (kvdistill 0.1.0, python 3.11.7) made E4/seed0."
    )


def test_the_file_reads_back_as_it_was_written(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path / "s", {"E1": [0.4, 0.5], "E2": [0.6, 0.7], "E4": [0.6, 0.69]})
    report = ExperimentReport(delta=0.02, studies=[record(tmp_path / "s")], others=["demo"])
    report.write(tmp_path / "r.json")
    assert ExperimentReport.read(tmp_path / "r.json") == report
    assert '"version": 1' in (tmp_path / "r.json").read_text()
