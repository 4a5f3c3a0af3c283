"""Runs are found, and told apart by their configuration; what does not count is said."""

from pathlib import Path
from typing import Any

import pytest

from kvdistill.reporting.studies.comparability import differences
from kvdistill.reporting.studies.experiments import Found, discover, seeds_in_words


def only(found: Found) -> Any:
    (study,) = found.studies
    return study


def test_a_run_is_read_whole(tmp_path: Path, write_run: Any) -> None:
    write_run(tmp_path / "E2" / "seed1", "E2", 0.6)
    write_run(tmp_path / "E1" / "seed1", "E1", 0.4)
    e1, e2 = only(discover(tmp_path)).runs
    assert (e2.accuracy, e2.passes, e2.curve.steps, e2.curve.accuracy[-1]) == (
        0.6,
        7.5,
        [100, 200, 300, 400],
        0.6,
    )
    assert e2.last == {
        "ce_student": 0.5,
        "ce_teacher": 0.25,
        "codi": 0.125,
        "kv": 0.2,
        "kv_weight": 2.01,
        "kv_lower_bound": 0.125,
    }
    assert e1.last["kv_weight"] == 0.0 and "kv" not in e1.last


def test_runs_of_earlier_versions_are_read_under_present_names(tmp_path: Path, write_run: Any) -> None:
    """Run records with ``explicit`` and ``loss.kv.geometry``, and metrics with ``kv_floor``."""
    write_run(tmp_path / "cot" / "seed1", "CoT", 0.9)
    write_run(tmp_path / "E2" / "seed1", "E2", 0.6)
    before = only(discover(tmp_path))
    old = {'"axis"': '"geometry"', '"task": "cot"': '"task": "explicit"', "kv_lower_bound": "kv_floor"}
    for path in [*tmp_path.rglob("run.json"), *tmp_path.rglob("metrics.jsonl")]:
        text = path.read_text()
        for new, name in old.items():
            text = text.replace(new, name)
        path.write_text(text)
    assert "explicit" in (tmp_path / "cot" / "seed1" / "run.json").read_text()
    assert "kv_floor" in (tmp_path / "E2" / "seed1" / "metrics.jsonl").read_text()
    assert only(discover(tmp_path)) == before
    assert differences(before.counting) == []


def test_a_name_that_contradicts_the_configuration_is_said(tmp_path: Path, write_run: Any) -> None:
    write_run(tmp_path / "E4_rkv" / "seed2", "E3", 0.5, seed=5)
    write_run(tmp_path / "e3_right_crop" / "seed0", "E3", 0.5)
    write_run(tmp_path / "cot_reference" / "seed0", "CoT", 0.5)
    write_run(tmp_path / "E40" / "seed0", "E1", 0.5)
    assert only(discover(tmp_path)).notes == [
        "E4_rkv/seed2 is E3 by its configuration, not E4: it counts as E3.",
        "E4_rkv/seed2 was trained with seed 5, which differs from its name.",
    ]


def test_unfinished_runs_say_how_far_they_are(tmp_path: Path, write_run: Any) -> None:
    write_run(tmp_path / "E1" / "seed0", "E1", None, (0.1, 0.2))
    write_run(tmp_path / "E2" / "seed0", "E2", None, (0.1,), training__max_steps=750)
    write_run(tmp_path / "E3" / "seed0", "E3", None, ())
    (tmp_path / "E4" / "seed0").mkdir(parents=True)
    study = only(discover(tmp_path))
    assert study.counting == [] and [run.state for run in study.runs] == ["unfinished"] * 3
    # Two epochs took 200 steps, and the configuration says 4.
    assert study.notes == [
        "E4/seed0 holds no run.json: its run never began. Start it again.",
        "E1/seed0 (E1) is unfinished, running or cut off, at step 200 of about 400: it does not count.",
        "E2/seed0 (E2) is unfinished, running or cut off, at step 100 of 750: it does not count.",
        "E3/seed0 (E3) is unfinished, running or cut off, before its first logged step: it does not count.",
    ]


def test_a_finished_run_without_its_evaluation_does_not_count(tmp_path: Path, write_run: Any) -> None:
    (write_run(tmp_path / "cot" / "seed0", "CoT", 0.9) / "evaluation_test_cot.json").unlink()
    study = only(discover(tmp_path))
    assert study.counting == []
    assert study.notes == [
        "cot/seed0 (CoT) is finished without evaluation_test_cot.json: it does not count. Name a "
        "test set and train again."
    ]


def test_broken_files_are_named_and_stop_nothing(tmp_path: Path, write_run: Any) -> None:
    for seed in range(5):
        write_run(tmp_path / "E4" / f"seed{seed}", "E4", 0.5)
    (tmp_path / "E4" / "seed0" / "run.json").write_text("{")
    (tmp_path / "E4" / "seed1" / "evaluation_test_latent.json").write_text("[]")
    (tmp_path / "E4" / "seed2" / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n')
    (tmp_path / "E4" / "seed3" / "metrics.jsonl").write_text('{"step": 1, "validation_accuracy": 40.0}\n')
    study = only(discover(tmp_path))
    assert [run.record.seed for run in study.runs] == [4]
    for note, words in zip(
        study.notes,
        ("run.json is no JSON", "latent.json should hold", "line 2: not a row", "accuracy: curve E4"),
        strict=True,
    ):
        assert "cannot be read and does not count: " in note and words in note


def test_a_configuration_of_another_time_is_named(tmp_path: Path, write_run: Any) -> None:
    folder = write_run(tmp_path / "E4" / "seed0", "E4", 0.5)
    (folder / "run.json").write_text((folder / "run.json").read_text().replace('"control"', '"contrl"'))
    assert only(discover(tmp_path)).notes == [
        "E4/seed0 cannot be read and does not count: run.json: the configuration lacks target.control.kind. "
        "Train again, or move the "
        "folder away."
    ]


def test_the_newest_finished_run_of_a_seed_counts(tmp_path: Path, write_run: Any) -> None:
    write_run(tmp_path / "E4_a" / "seed0", "E4", 0.4, started="2026-01-02T03:00:00+00:00")
    write_run(
        tmp_path / "E4_b" / "seed0", "E4", 0.5, started="2026-01-02T03:30:00+01:00"
    )  # half an hour earlier
    write_run(tmp_path / "E4_c" / "seed0", "E4", None, started="2026-01-03T03:00:00+00:00")
    study = only(discover(tmp_path))
    assert [run.accuracy for run in study.counting] == [0.4]
    assert study.notes[0] == "E4_b/seed0 does not count: E4_a/seed0 is newer, and E4 with seed 0 as well."


def test_studies_and_other_runs_are_told_apart(tmp_path: Path, write_run: Any) -> None:
    for path in ("llama/E1/seed10", "llama/E1/seed2", "E1/seed0"):
        write_run(tmp_path / path, "E1", 0.5)
    write_run(tmp_path / "demo", "E1", 0.5, seed=0)
    (tmp_path / "cache" / "seed1").mkdir(parents=True)
    found = discover(tmp_path)
    assert {study.name: [run.folder for run in study.runs] for study in found.studies} == {
        tmp_path.name: ["E1/seed0"],
        "llama": ["E1/seed2", "E1/seed10"],
    }
    assert found.others == ["demo"]
    assert [run.folder for run in only(discover(tmp_path / "llama")).runs] == ["E1/seed2", "E1/seed10"]
    assert [run.folder for run in only(discover(tmp_path / "E1")).runs] == ["seed0"]
    with pytest.raises(
        FileNotFoundError, match="nowhere is no folder: give the one that holds the runs, such as outputs."
    ):
        discover(tmp_path / "nowhere")


def test_neighbours_are_drawn_together() -> None:
    assert (
        seeds_in_words([5, 0, 2, 1]) == "0–2, 5" and seeds_in_words([7]) == "7" and seeds_in_words([]) == ""
    )
