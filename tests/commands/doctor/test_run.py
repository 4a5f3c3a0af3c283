"""Checks of software, hub and processes, and the table of findings."""

import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants

from kvdistill.commands.doctor import run
from kvdistill.commands.doctor.finding import GIB, Check, Finding
from kvdistill.commands.doctor.run import CHECKS, TORCHRUN_VARIABLES, diagnose, doctor
from pico_doctor import look, seen, with_space

Patch = pytest.MonkeyPatch


# Python and packages.


def test_an_old_python_is_a_problem(monkeypatch: Patch) -> None:
    assert look("Python").state == "ok"
    monkeypatch.setattr(run.platform, "python_version", lambda: "3.9.2")
    assert seen("Python") == ("problem", "3.9.2 (wanted: >=3.11)")
    assert "bash setup.sh" in look("Python").advice


def test_packages_outside_their_ranges_are_named_with_both_versions(monkeypatch: Patch) -> None:
    def version(name: str) -> str:
        if name == "peft":
            raise PackageNotFoundError(name)
        return {"torch": "2.3.0+cpu", "numpy": "2.0"}.get(name, "99")

    assert look("packages").state == "ok"
    monkeypatch.setattr(run, "version", version)
    assert seen("packages") == (
        "problem",
        "peft is not installed, wanted >=0.18; torch is 2.3.0+cpu, wanted >=2.11",
    )


def test_a_package_that_breaks_at_import_is_a_problem(monkeypatch: Patch) -> None:
    def broken(name: str) -> None:
        if name == "peft":
            raise RuntimeError("undefined\n symbol")

    monkeypatch.setattr(run, "import_module", broken)
    assert seen("imports") == ("problem", "peft (RuntimeError: undefined symbol)")


def test_a_missing_extra_is_a_note_and_its_packages_are_not_imported(monkeypatch: Patch) -> None:
    imported: list[str] = []
    monkeypatch.setattr(run, "import_module", imported.append)
    assert seen("imports") == ("ok", "all can be imported")
    assert "datasets" in imported and "torch.utils.tensorboard" in imported
    assert seen("extras") == ("ok", "reporting, routing, hub")
    imported.clear()
    monkeypatch.setattr("kvdistill.console.extras.find_spec", lambda name: None)
    assert look("imports").state == "ok"
    assert imported == ["transformers", "accelerate", "peft"]
    assert seen("extras") == ("note", "without reporting, routing, hub")
    assert look("extras").advice == "Run: pip install 'kvdistill[reporting,routing,hub]'"


# The hub.


def test_login_and_offline_mode_are_looked_up_without_asking_the_hub(
    monkeypatch: Patch, tmp_path: Path
) -> None:
    for offline, state in ((True, "note"), (False, "ok")):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        assert look("hub").state == state
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert seen("hub login") == ("note", "not logged in")
    for text, state in (("hf_x", "ok"), ("", "note")):
        (tmp_path / "token").write_text(text)
        assert look("hub login").state == state
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert look("hub login").state == "ok"


def test_the_cache_wants_room_for_a_7b_model(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "not" / "there"))
    with_space(monkeypatch, 100 * GIB)
    assert seen("hub cache") == ("ok", f"{tmp_path}/not/there: 100.0 GiB free")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert seen("hub cache") == ("note", f"{tmp_path}/not/there: 100.0 GiB free, cannot be written")
    monkeypatch.setattr(os, "access", lambda *_: True)
    with_space(monkeypatch, 10 * GIB)
    assert (
        look("hub cache").lost
        == "the download of a 7B model: it wants 14.2 GiB in a folder that can be written."
    )


# Attention, SLURM, processes.


def test_flash_attention_is_used_only_where_it_can_be(cards: Callable[..., None], monkeypatch: Patch) -> None:
    assert look("attention").found == "sdpa and eager; flash-attn is not installed (nor needed)"
    monkeypatch.setattr(run, "find_spec", lambda name: object())
    cards(0)
    assert seen("attention") == ("note", "sdpa and eager; flash-attn is installed, but needs a CUDA GPU")
    cards(1)
    assert "flash-attn is installed, but broken (No module named 'flash_attn')" in look("attention").found
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace())
    assert seen("attention") == ("ok", "sdpa, eager and flash-attn")


def test_slurm_outside_and_inside_a_job(monkeypatch: Patch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert seen("SLURM") == ("note", "no sbatch")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert seen("SLURM") == ("ok", "sbatch is here, no job runs")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_NNODES", "2")
    assert look("SLURM").found == "inside a job: SLURM_JOB_ID=17, SLURM_NNODES=2"


def test_half_an_environment_of_torchrun_is_a_note(monkeypatch: Patch) -> None:
    assert (look("processes").state, "gloo" in look("processes").found) == ("ok", True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert seen("processes") == ("note", "only WORLD_SIZE of torchrun's variables are set")
    assert look("processes").advice.endswith("unset WORLD_SIZE")
    for name in TORCHRUN_VARIABLES:
        monkeypatch.setenv(name, "2" if name == "WORLD_SIZE" else "1")
    assert look("processes").found.startswith("process 1 of 2; backends: ")
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    assert seen("processes") == ("note", "process 1 of 2; backends: none")


# The table.


def test_the_table_and_what_would_not_work(monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    checks = {
        "fine": Check(lambda what: Finding(what, "ok", "1", "never shown"), "never shown"),
        "known": Check(lambda what: Finding(what, "note", "2", "do this"), "something: it lacks 2."),
        "odd": Check(lambda what: Finding(what, "note", str(1 // 0)), "never shown"),
    }
    monkeypatch.setattr(run, "CHECKS", checks)
    assert doctor() == 0
    assert capsys.readouterr().out == (
        "ok       fine               1\n"
        "note     known              2\n"
        "                            -> do this\n"
        "note     odd                could not be checked (ZeroDivisionError: integer division or modulo by "
        "zero)\n"
        "\nWhat would not work here, and why:\n  - something: it lacks 2.\n\nNo problem found.\n"
    )
    checks["bad"] = Check(lambda what: Finding(what, "problem", "3", "repair it"))
    assert doctor() == 1
    assert capsys.readouterr().out.endswith("- something: it lacks 2.\n\n1 of 4 checks found a problem.\n")


def test_this_machine_can_be_diagnosed_without_a_network(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.socket.connect", None)
    findings = diagnose()
    assert [finding.what for finding in findings] == list(CHECKS)
    assert [finding.state for finding in findings[:3]] == ["ok"] * 3
    if sys.platform == "linux":
        assert [finding for finding in findings if "could not be checked" in finding.found] == []
    assert all(finding.advice for finding in findings if finding.state != "ok")
