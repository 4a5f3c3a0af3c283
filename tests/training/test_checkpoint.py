"""Checkpoints as folders: names, order, and what is never taken for whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kvdistill.training.checkpoint import (
    CONTENTS,
    EXTRA_STATE_FILE,
    atomic_checkpoint,
    checkpoint_name,
    checkpoints,
    keep_newest,
    load_extra_state,
    newest_checkpoint,
    publish,
    read_state,
    readable,
    require_complete,
    require_steps,
    save_extra_state,
    write_manifest,
)


@pytest.mark.parametrize(
    ("epoch", "step", "name"),
    [
        (1.0, 3, "ep1"),
        (2.0, 6, "ep2"),
        (2 / 3, 2, "ep1-step2"),
        (4 / 3, 4, "ep2-step4"),
        (2 - 1e-9, 10**9 - 1, "ep2-step999999999"),
    ],
)
def test_a_checkpoint_name_by_hand(epoch: float, step: int, name: str) -> None:
    assert checkpoint_name(epoch, step) == f"checkpoint-{name}"


def checkpoint(folder: Path, name: str, step: int) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "trainer_state.json").write_text(json.dumps({"global_step": step, "epoch": 1.0}))
    return folder / name


def test_the_newest_checkpoint_is_found_by_its_state_not_its_name(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    checkpoint(tmp_path, "checkpoint-ep10", 30)
    newest = checkpoint(tmp_path, "checkpoint-ep9-step31", 31)
    checkpoint(tmp_path, ".checkpoint-ep11.partial", 99)
    checkpoint(tmp_path, ".checkpoint-ep12.older", 99)
    (tmp_path / "checkpoint-ep99").mkdir()
    assert newest_checkpoint(str(tmp_path)) == newest


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for name, step in (("checkpoint-ep1", 9), ("checkpoint-ep2", 8), ("checkpoint-ep3", 10)):
        checkpoint(tmp_path, name, step)
    keep_newest(tmp_path, None)
    assert len(checkpoints(tmp_path)) == 3
    keep_newest(tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-ep1", "checkpoint-ep3"}


def test_a_checkpoint_that_is_not_whole_is_refused_by_its_file(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "checkpoint-ep1", 1)
    (folder / "deep").mkdir()
    (folder / "deep" / "optimizer.pt").write_text("many numbers")
    with pytest.raises(
        ValueError,
        match=r"contents\.json is missing, so it is not known whether the checkpoint is complete\. Put it "
        r"back, or",
    ):
        require_complete(folder)
    (folder / "config.json").write_text("{}")
    write_manifest(folder)
    (folder / "config.json").write_text('{"base": "elsewhere"}')
    require_complete(folder)
    (folder / "deep" / "optimizer.pt").write_text("many")
    with pytest.raises(
        ValueError,
        match=r"deep/optimizer\.pt is damaged: it has 4 bytes, and 12 were written\. Put .*, or delete "
        r".*ep1: training",
    ):
        require_complete(folder)
    (folder / "deep" / "optimizer.pt").unlink()
    with pytest.raises(
        ValueError,
        match=r"deep/optimizer\.pt is missing\. Put it back, or delete .*checkpoint-ep1: training then "
        r"resumes",
    ):
        require_complete(folder)
    (folder / "trainer_state.json").write_text('{"global')
    with pytest.raises(
        ValueError,
        match=r"checkpoint-ep1/trainer_state\.json is damaged\. Delete .*checkpoint-ep1 to go on without",
    ):
        newest_checkpoint(tmp_path)


def test_publishing_puts_the_new_in_the_place_of_the_old(tmp_path: Path) -> None:
    checkpoint(tmp_path, "checkpoint-ep1", 1)
    partial = checkpoint(tmp_path, ".checkpoint-ep1.partial", 2)
    publish(partial, tmp_path / "checkpoint-ep1")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-ep1"]
    assert json.loads((tmp_path / "checkpoint-ep1" / "trainer_state.json").read_text()) == {
        "global_step": 2,
        "epoch": 1.0,
    }
    manifest = json.loads((tmp_path / "checkpoint-ep1" / CONTENTS).read_text())
    assert (manifest["checkpoint"], manifest["global_step"], manifest["files"].keys()) == (
        "checkpoint-ep1",
        2,
        {"trainer_state.json"},
    )
    require_complete(newest_checkpoint(tmp_path) or tmp_path)


def test_what_is_carried_comes_back_as_it_was(tmp_path: Path) -> None:
    tensors = {"step/weight": torch.tensor(0.1, dtype=torch.float64), "terms/kv": torch.tensor([1.5, 2.0])}
    save_extra_state(tmp_path, tensors, {"epoch": 1, "cursor": {"line": 3}})
    found, place = load_extra_state(tmp_path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert place == {"epoch": 1, "cursor": {"line": 3}}
    save_extra_state(tmp_path, {}, None)
    assert load_extra_state(tmp_path) == ({}, None)
    (tmp_path / EXTRA_STATE_FILE).unlink()
    with pytest.raises(
        ValueError,
        match=r"holds no carried\.safetensors, so training cannot go on from it: it serves as model\.name",
    ):
        load_extra_state(tmp_path)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from kvdistill.training.checkpoint import atomic_checkpoint, save_extra_state
folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
partial, final = folder / ".checkpoint-ep2.partial", folder / "checkpoint-ep2"
partial.mkdir()
big = torch.zeros(100_000)
try:
    with atomic_checkpoint(partial, final, True):
        if sys.argv[2] == "safetensors":
            save_extra_state(partial, {"big": big}, None)
        else:
            torch.save(big, partial / "big.pt")
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_a_full_disk_leaves_the_checkpoint_before_it_and_says_so(tmp_path: Path, kind: str) -> None:
    """A limit on the size of files stands in for the disk: the operating system refuses the write as it
    would.
    """
    checkpoint(tmp_path, "checkpoint-ep1", 1)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), kind],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'checkpoint-ep2'} could not be written" in done.stdout
    assert f"{tmp_path / 'checkpoint-ep1'} is complete" in done.stdout
    assert "then run the same command with --resume" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-ep1"]


def test_other_processes_do_not_remove_what_the_first_one_writes(tmp_path: Path) -> None:
    partial = checkpoint(tmp_path, ".checkpoint-ep1.partial", 1)
    with (
        pytest.raises(OSError, match="there is no earlier one"),
        atomic_checkpoint(partial, tmp_path / "checkpoint-ep1", False),
    ):
        raise OSError("disk quota exceeded")
    assert partial.is_dir()


def test_a_copy_a_renamed_one_and_another_step_are_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "checkpoint-ep1", 1)
    write_manifest(folder)
    require_complete(folder)
    with pytest.raises(
        ValueError,
        match=r"checkpoint-ep2 is a copy of checkpoint-ep1, or was renamed: give it that name again, or "
        r"delete",
    ):
        require_complete(folder.rename(tmp_path / "checkpoint-ep2"))
    folder = (tmp_path / "checkpoint-ep2").rename(folder)
    manifest = json.loads((folder / CONTENTS).read_text())
    (folder / CONTENTS).write_text(json.dumps(manifest | {"global_step": 9}))
    with pytest.raises(
        ValueError,
        match=r"contents\.json was written at step 9, the checkpoint at step 1\. Put it back, or delete",
    ):
        require_complete(folder)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 0, "epoch": 1.0}))
    with pytest.raises(ValueError, match=r"trainer_state\.json is damaged or was replaced"):
        require_steps(tmp_path)


def test_a_manifest_of_the_earlier_version_is_enough_to_resume(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "checkpoint-ep1", 1)
    size = (folder / "trainer_state.json").stat().st_size
    (folder / CONTENTS).write_text(json.dumps({"trainer_state.json": size}))
    require_steps(tmp_path)
    require_complete(folder)


@pytest.mark.parametrize(
    "change",
    [{"global_step": "1"}, {"epoch": "one"}, {"max_steps": None}, {"log_history": [3]}, {"unknown": 1}],
)
def test_a_state_of_other_types_is_refused_by_its_file(change: dict[str, object], tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "checkpoint-ep1", 1)
    assert read_state(folder).global_step == 1
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 1, "epoch": 1.0} | change))
    with pytest.raises(
        ValueError,
        match=r"^\S+trainer_state\.json is damaged.* Put it back, or delete \S+checkpoint-ep1: training then",
    ):
        read_state(folder)


def test_errors_while_loading_name_the_file_that_cannot_be_read(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "optimizer.pt")
    (tmp_path / "scheduler.pt").write_bytes(bytes(500))
    with (
        pytest.raises(ValueError, match=r"^\S+scheduler\.pt is damaged, or holds more"),
        readable(tmp_path, "optimizer.pt", "scheduler.pt"),
    ):
        raise RuntimeError("cut")
    with pytest.raises(KeyboardInterrupt), readable(tmp_path, "optimizer.pt"):
        raise KeyboardInterrupt


def test_any_error_while_writing_is_a_sentence_and_removes_what_was_written(tmp_path: Path) -> None:
    partial = checkpoint(tmp_path, ".checkpoint-ep1.partial", 1)
    with (
        pytest.raises(OSError, match="No space left"),
        atomic_checkpoint(partial, tmp_path / "checkpoint-ep1", True),
    ):
        raise Exception("No space left on device (os error 28)")  # as tokenizers raises it
    assert not partial.exists()


def test_what_is_carried_has_the_mode_of_a_new_file(tmp_path: Path) -> None:
    save_extra_state(tmp_path, {"a": torch.ones(1)}, None)
    (tmp_path / "new").touch()
    assert (tmp_path / EXTRA_STATE_FILE).stat().st_mode == (tmp_path / "new").stat().st_mode


def test_a_process_that_has_gone_is_not_taken_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    gone = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")
    with (
        pytest.raises(RuntimeError, match="Connection closed"),
        atomic_checkpoint(tmp_path / "a", tmp_path / "b", True),
    ):
        raise gone
    monkeypatch.delenv("WORLD_SIZE")
    with (
        pytest.raises(OSError, match="could not be written"),
        atomic_checkpoint(tmp_path / "a", tmp_path / "b", True),
    ):
        raise gone
