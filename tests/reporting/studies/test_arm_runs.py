"""Runs of a study read from their folders: what counts, warm starts, and options that differ."""

import json
from dataclasses import replace
from pathlib import Path

import pico_students
from kvdistill.config import resolved
from kvdistill.records.schema import DepthCount, EvaluationRecord
from kvdistill.reporting.studies.arm_runs import options_by_arm, read_runs, read_warm_runs
from pico_study import plan, write_run


def test_runs_count_once_they_are_complete_and_evaluated(tmp_path: Path) -> None:
    write_run(tmp_path / "e1" / "seed0", 0, 20)
    write_run(tmp_path / "e1" / "seed1", 1, 30)
    (tmp_path / "e1" / "seed1" / "TRAINING_COMPLETED.txt").unlink()
    write_run(tmp_path / "rkv" / "seed0", 0, 90)
    (tmp_path / "rkv" / "seed0" / "evaluation_test_latent.json").unlink()
    write_run(tmp_path / "rkv" / "seed1", 1, 90)
    (tmp_path / "rkv" / "seed1" / "run.json").write_text("{")
    runs, notes = read_runs(tmp_path, plan("e1", "rkv"))
    assert [(run.arm, run.record.seed, run.counts) for run in runs] == [
        ("e1", 0, True),
        ("e1", 1, False),
        ("rkv", 0, False),
    ]
    assert (runs[0].accuracy, runs[0].minutes, runs[0].method) == (0.2, 1.5, "step_end")
    assert [note.partition(":")[0] for note in notes] == [
        "e1/seed1 is unfinished, running or cut off",
        "rkv/seed0 is complete without an evaluation",
        "rkv/seed1 cannot be read and does not count",
    ]


def test_depths_and_nats_are_read_where_they_are_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "e1" / "seed0"
    write_run(folder, 0, 20)
    record = EvaluationRecord.read(folder / "evaluation_test_latent.json")
    by_depth = {1: DepthCount(num=50, correct=20), 2: DepthCount(num=50, correct=0)}
    replace(record, nats=-1.5, by_depth=by_depth).write(folder / "evaluation_test_latent.json")
    (run,), _ = read_runs(tmp_path, plan("e1", "rkv"))
    assert (run.nats, run.by_depth) == (-1.5, {1: 0.4, 2: 0.0})


def test_warm_starts_have_their_steps_and_last_accuracy(tmp_path: Path) -> None:
    write_run(tmp_path / "warm" / "terse" / "seed1", 1, 98, curve={25: 0.5, 50: 0.96}, task="cot")
    (run,) = read_warm_runs(tmp_path, plan("e1", "rkv"))
    assert (run.stage, run.seed, run.steps, run.accuracy, run.minutes) == ("terse", 1, 50, 0.96, 1.5)


def test_options_that_differ_from_the_baseline_and_inside_an_arm(tmp_path: Path) -> None:
    loss = {"kv_weight": 0.0, "attention_weight": 0.0}
    write_run(tmp_path / "e1" / "seed0", 0, 20, loss=loss)
    write_run(tmp_path / "rkv" / "seed0", 0, 90)
    write_run(tmp_path / "rkv" / "seed1", 1, 90, loss=loss)
    runs, _ = read_runs(tmp_path, plan("e1", "rkv"))
    options, unlike = options_by_arm(runs, "e1")
    assert options == {"e1": {}, "rkv": {"loss.kv_weight": "1.0"}}
    assert unlike == ["rkv: seed 1 differs from seed 0 in loss.kv_weight, so its seeds are no replications."]
    assert options_by_arm([], "e1") == ({}, [])


def test_paths_of_runs_with_the_same_seed_are_one_choice(tmp_path: Path) -> None:
    for seed, step in ((1, 250), (11, 475)):
        data = {"traces": [f"study/samples/a/seed{seed}", f"study/b/seed{seed}/checkpoint-ep1-step{step}"]}
        write_run(tmp_path / "e1" / f"seed{seed}", seed, 20)
        write_run(tmp_path / "rkv" / f"seed{seed}", seed, 90, data=data)
    runs, _ = read_runs(tmp_path, plan("e1", "rkv"))
    options, unlike = options_by_arm(runs, "e1")
    assert unlike == []
    assert options["rkv"] == {"data.traces": '["study/samples/a/seed*", "study/b/seed*"]'}


def test_options_that_change_no_result_or_are_newer_than_a_run_are_no_difference(tmp_path: Path) -> None:
    now = resolved(pico_students.config(data={"train": {"kind": "synthetic", "num": 4}}))
    older = json.loads(json.dumps(now))
    del older["training"]["report"], older["data"]["train"]["task"]["stride"]
    older["training"]["tensorboard"] = not now["training"]["tensorboard"]
    write_run(tmp_path / "e1" / "seed0", 0, 20, **older)
    write_run(tmp_path / "e1" / "seed1", 1, 20, **now)
    runs, _ = read_runs(tmp_path, plan("e1", "rkv"))
    assert [len(run.record.config["training"]) for run in runs] == [
        len(older["training"]),
        len(now["training"]),
    ]
    assert options_by_arm(runs, "e1") == ({"e1": {}}, [])
