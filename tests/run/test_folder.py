"""The folder of a run: who may write into it, what a new run deletes, and that only one writes at a time."""

import multiprocessing
import os
import shutil
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from kvdistill.config import RunConfig, parse, resolved
from kvdistill.records.schema import RunRecord
from kvdistill.run.folder import (
    COMPLETED,
    RunState,
    clear_run_dir,
    inspect_run_dir,
    lock_run_dir,
    mark_completed,
    summary,
)
from kvdistill.training.checkpoint import checkpoints, write_manifest

TREE: dict[str, Any] = {
    "model": {"config": {"model_type": "llama"}},
    "data": {"train": {"kind": "synthetic"}},
}


def config(folder: Path, training: dict[str, Any] | None = None, **sections: Any) -> RunConfig:
    return parse(
        TREE | sections | {"training": {"output_dir": str(folder / "run")} | (training or {})}, "a test"
    )


def record(run: RunConfig, **changes: Any) -> RunRecord:
    told = {
        "versions": {},
        "commit": None,
        "seed": 3,
        "hardware": "CPU",
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 12.34,
    }
    return RunRecord(config=resolved(run), **{**told, **changes})


def checkpoint(folder: Path, epoch: int) -> Path:
    path = folder / "run" / f"checkpoint-ep{epoch}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(f'{{"global_step": {10 * epoch}}}')
    (path / "model.safetensors").touch()
    write_manifest(path)
    return path


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A folder in which ``run`` was interrupted after two epochs."""
    record(config(tmp_path), seconds=None).write(tmp_path / "run" / "run.json")
    checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)
    return tmp_path


@pytest.fixture
def finished(unfinished: Path) -> Path:
    mark_completed(unfinished / "run", "done")
    return unfinished


# Where a run may begin, and where it goes on.


def test_an_empty_or_new_folder_is_free(tmp_path: Path) -> None:
    for training in ({}, {"resume": True}, {"overwrite": True}):
        assert inspect_run_dir(config(tmp_path, training)) == RunState(tmp_path / "run")
    assert not (tmp_path / "run").exists(), "looking changes nothing"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    assert inspect_run_dir(config(tmp_path)) == RunState(tmp_path / "run")


def test_a_finished_or_unfinished_run_is_left_alone(unfinished: Path) -> None:
    choose = r"choose another --training\.output_dir, or say --training\.overwrite true\."
    with pytest.raises(
        ValueError, match=rf"run already holds an unfinished run \(--resume continues it\): {choose}"
    ):
        inspect_run_dir(config(unfinished))
    mark_completed(unfinished / "run", "done")
    with pytest.raises(ValueError, match=rf"run already holds a finished run: {choose}"):
        inspect_run_dir(config(unfinished))
    for epoch in (1, 2):
        shutil.rmtree(unfinished / "run" / f"checkpoint-ep{epoch}")
    with pytest.raises(
        ValueError, match=rf"run already holds a finished run without its checkpoints: {choose}"
    ):
        inspect_run_dir(config(unfinished, {"resume": True}))
    assert inspect_run_dir(config(unfinished, {"overwrite": True})) == RunState(unfinished / "run")


def test_a_run_goes_on_from_its_newest_checkpoint(unfinished: Path) -> None:
    start = inspect_run_dir(config(unfinished, {"resume": True}))
    assert (start.checkpoint, start.finished) == (unfinished / "run" / "checkpoint-ep2", False)
    assert start.before == record(config(unfinished), seconds=None)
    mark_completed(unfinished / "run", "done")
    assert inspect_run_dir(config(unfinished, {"resume": True})).finished
    for epoch in (1, 2):
        shutil.rmtree(unfinished / "run" / f"checkpoint-ep{epoch}")
    (unfinished / "run" / COMPLETED).unlink()
    assert inspect_run_dir(config(unfinished, {"resume": True})).checkpoint is None, (
        "it had not come to a checkpoint: from the beginning"
    )


def test_a_run_goes_on_whose_options_had_other_names(unfinished: Path) -> None:
    loss = {"kv": {"axis": "tokens"}, "extra": [{"weight": 1.0, "loss": {"kind": "kv", "axis": "tokens"}}]}
    now = config(unfinished, {"resume": True, "task": "cot"}, loss=loss)
    file = unfinished / "run" / "run.json"
    record(now).write(file)
    text = file.read_text()
    old = text.replace('"axis"', '"geometry"').replace('"task": "cot"', '"task": "explicit"')
    assert old.count('"geometry"') == 2 and old.count('"explicit"') == 1
    file.write_text(old)
    assert inspect_run_dir(now).checkpoint is not None
    with pytest.raises(ValueError, match=r'its loss\.kv\.axis is "tokens", now it is "slots"'):
        inspect_run_dir(config(unfinished, {"resume": True, "task": "cot"}, loss=loss | {"kv": {}}))


def test_what_does_not_change_what_is_learnt_may_change(unfinished: Path) -> None:
    free = {"resume": True, "progress": False, "tensorboard": False, "num_workers": 3, "save_total_limit": 2}
    assert inspect_run_dir(config(unfinished, free)).checkpoint is not None
    (unfinished / "run").rename(unfinished / "moved")
    assert (
        inspect_run_dir(config(unfinished, free | {"output_dir": str(unfinished / "moved")})).checkpoint
        is not None
    )


@pytest.mark.parametrize(
    ("training", "sections", "sentence"),
    [
        ({"lr": 1e-3}, {}, r"its training\.lr is 0\.0005, now it is 0\.001\."),
        (
            {},
            {"data": {"train": {"kind": "synthetic", "num": 7}}},
            r"its data\.train\.num is 2048, now it is 7\.",
        ),
        (
            {},
            {"data": {"train": {"kind": "file", "path": "ü.jsonl"}}},
            r"its data\.train\.format is null, now it is \"auto\"\.",
        ),
        ({}, {"teacher": {"name": "big"}}, r"its teacher\.adapter\.kind is null, now it is \"ridge\"\."),
        (
            {},
            {"model": {"config": {"model_type": "llama", "hidden_size": 8}}},
            r"its model\.config\.hidden_size is null, now it is 8\.",
        ),
        ({"max_steps": 5}, {}, r"its training\.max_steps is -1, now it is 5\."),
    ],
    ids=["learning rate", "data", "other data", "teacher", "model", "stop"],
)
def test_another_run_is_refused_by_the_option_that_differs(
    unfinished: Path, training: dict[str, Any], sections: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(
        ValueError,
        match=rf"run holds another run: {sentence} Go on with the options that it was started with "
        r"\(--config '.*run/run\.json' "
        r"--training\.resume true --training\.overwrite false\), or choose another output_dir\.",
    ):
        inspect_run_dir(config(unfinished, {"resume": True} | training, **sections))
    assert inspect_run_dir(config(unfinished, {"overwrite": True} | training, **sections)).checkpoint is None


def test_places_that_cannot_be_a_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"training\.resume continues the run in its folder, training\.overwrite deletes it: choose "
        r"one",
    ):
        inspect_run_dir(config(tmp_path, {"resume": True, "overwrite": True}))
    (tmp_path / "run").touch()
    with pytest.raises(ValueError, match=r"run is a file: choose another training\.output_dir\."):
        inspect_run_dir(config(tmp_path))
    (tmp_path / "run").unlink()
    checkpoint(tmp_path, 5)
    for training in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(
            ValueError,
            match=r"run holds checkpoint-ep5, but no run\.json: choose another --training\.output_dir, or "
            r"move",
        ):
            inspect_run_dir(config(tmp_path, training))
    shutil.rmtree(tmp_path / "run" / "checkpoint-ep5")
    mark_completed(tmp_path / "run", "of an older run")
    for training in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(
            ValueError,
            match=r"run holds TRAINING_COMPLETED\.txt, but no run\.json: choose another "
            r"--training\.output_dir",
        ):
            inspect_run_dir(config(tmp_path, training))


def test_a_run_does_not_go_on_from_a_damaged_checkpoint(unfinished: Path) -> None:
    go_on = config(unfinished, {"resume": True})
    (unfinished / "run" / "checkpoint-ep2" / "model.safetensors").unlink()
    with pytest.raises(
        ValueError,
        match=r"checkpoint-ep2/model\.safetensors is missing\. Put it back, or delete .*checkpoint-ep2: "
        r"training",
    ):
        inspect_run_dir(go_on)
    (unfinished / "run" / "checkpoint-ep2" / "trainer_state.json").unlink()
    with pytest.raises(
        ValueError,
        match=r"checkpoint-ep2 holds no trainer_state\.json, so it is no complete checkpoint: delete it to "
        r"go on",
    ):
        inspect_run_dir(go_on)
    assert inspect_run_dir(config(unfinished, {"overwrite": True})).checkpoint is None
    shutil.rmtree(unfinished / "run" / "checkpoint-ep2")
    assert inspect_run_dir(go_on).checkpoint == unfinished / "run" / "checkpoint-ep1"


@pytest.mark.parametrize("part", ["model", "teacher"])
def test_a_run_does_not_write_over_what_it_starts_from(
    tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = checkpoint(tmp_path, 1)
    with pytest.raises(
        ValueError,
        match=r"checkpoint-ep1 is in .*run, which the run would write over: choose another --training",
    ):
        inspect_run_dir(config(tmp_path, {"overwrite": True}, **{part: {"name": str(inside)}}))
    monkeypatch.chdir(tmp_path)
    hub = config(tmp_path, {"output_dir": "."}, **{part: {"name": "owner/model"}})
    assert inspect_run_dir(hub) == RunState(Path()), "the name of a model on the hub lies nowhere"


# What a new run deletes.


def test_a_new_run_deletes_what_the_old_one_wrote_and_nothing_else(finished: Path) -> None:
    run = finished / "run"
    for name in (
        "metrics.jsonl",
        "training_log.txt",
        "report.html",
        "report.md",
        "evaluation_test_cot.json",
        "evaluation_test_cot.answers.txt",
    ):
        (run / name).touch()
    for name in ("figures", "runs", ".checkpoint-ep3.partial"):
        (run / name / "inside").mkdir(parents=True)
    strangers = [
        "report.docx",
        "evaluation_notes.txt",
        "checkpoint-best",
        "notes.txt",
        "quarantine_train.jsonl",
        ".lock",
    ]
    for name in strangers:
        (run / name).touch()
    clear_run_dir(inspect_run_dir(config(finished, {"overwrite": True})))
    assert sorted(path.name for path in run.iterdir()) == sorted(strangers)


def test_a_run_that_goes_on_keeps_what_it_has(finished: Path) -> None:
    run = finished / "run"
    for name in ("metrics.jsonl", "training_log.txt", "evaluation_test_cot.json", "report.html"):
        (run / name).touch()
    (run / ".checkpoint-ep3.partial").mkdir()
    clear_run_dir(inspect_run_dir(config(finished, {"resume": True})))
    left = {path.name for path in run.iterdir()}
    assert left == {
        "run.json",
        "checkpoint-ep1",
        "checkpoint-ep2",
        "metrics.jsonl",
        "training_log.txt",
        "report.html",
    }


def test_a_folder_without_a_run_is_cleared_of_nothing(tmp_path: Path) -> None:
    clear_run_dir(RunState(tmp_path / "new"))
    assert (tmp_path / "new").is_dir()
    (tmp_path / "metrics.jsonl").touch()
    (tmp_path / "figures").mkdir()
    clear_run_dir(RunState(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"new", "metrics.jsonl", "figures"}


def test_a_deletion_that_is_cut_short_leaves_an_unfinished_run(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first checkpoint is half deleted: it is not found, and nobody takes the run for a finished one."""

    def killed(path: Path) -> None:
        assert path.name == ".checkpoint-ep1.older"
        (path / "model.safetensors").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", killed)
        clear_run_dir(inspect_run_dir(config(finished, {"overwrite": True})))
    assert not inspect_run_dir(config(finished, {"resume": True})).finished
    assert [path.name for path in checkpoints(finished / "run")] == ["checkpoint-ep2"]
    clear_run_dir(inspect_run_dir(config(finished, {"overwrite": True})))
    assert not list((finished / "run").iterdir())


# One at a time.


def hold(folder: Path, told: Connection) -> None:
    """What a run does, with a child that outlives it."""
    with lock_run_dir(folder, True):
        child = os.fork()
        if child:
            told.send(child)
        time.sleep(60)


def test_one_process_at_a_time_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    """Also while a child of the killed process, such as one that prepares batches, lives on."""
    with lock_run_dir(tmp_path / "run", True):
        pass
    ours, theirs = multiprocessing.Pipe()
    holder = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path / "run", theirs))
    holder.start()
    child = ours.recv()
    try:
        with (
            pytest.raises(
                ValueError,
                match=r"Another process is training in .*run: wait for it, stop it, or choose another "
                r"output_dir\.",
            ),
            lock_run_dir(tmp_path / "run", True),
        ):
            pass
        with lock_run_dir(tmp_path / "run", False):
            pass  # the other processes of that run do not ask
        holder.kill()
        holder.join()
        with lock_run_dir(tmp_path / "run", True):
            os.kill(child, 0)  # still there
    finally:
        os.kill(child, signal.SIGKILL)
        holder.kill()
        holder.join()


def test_the_lock_goes_with_the_block_also_where_it_fails(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), lock_run_dir(tmp_path, True):
            raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


# The last word.


def test_the_summary_says_how_the_run_was_made_and_what_came_out(tmp_path: Path) -> None:
    run = config(tmp_path)
    text = summary(
        record(run, command="kvdistill train --config x.toml", commit="abc"),
        {"steps": 30, "accuracy, latent": "50.0 % of 8"},
    )
    assert text.splitlines() == [
        "Training completed.",
        "",
        "started:                    2026-01-02T03:04:05+00:00",
        "seconds:                    12.3",
        "seed:                       3",
        "hardware:                   CPU",
        "commit:                     abc",
        "command:                    kvdistill train --config x.toml",
        "steps:                      30",
        "accuracy, latent:           50.0 % of 8",
    ]
    assert "commit:                     unknown\ncommand:                    called from Python\n" in summary(
        record(run), {}
    )
    mark_completed(tmp_path, text)
    assert (tmp_path / COMPLETED).read_text() == text
