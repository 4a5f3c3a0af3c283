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

from kvdistill.commands import doctor as doctor_module
from kvdistill.commands.doctor import (
    CHECKS,
    GIB,
    SLURM_VARIABLES,
    TORCHRUN_VARIABLES,
    Check,
    Finding,
    diagnose,
    doctor,
)

Patch = pytest.MonkeyPatch


def look(what: str) -> Finding:
    """One check as ``diagnose`` makes it."""
    return doctor_module._made(what, CHECKS[what])


def seen(what: str) -> tuple[str, str]:
    finding = look(what)
    return finding.state, finding.found


def with_space(patch: Patch, num_bytes: int) -> None:
    patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(num_bytes, 0, num_bytes))


@pytest.fixture(autouse=True)
def plain(monkeypatch: Patch) -> None:
    for name in (*SLURM_VARIABLES, *TORCHRUN_VARIABLES, "HF_TOKEN", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


# Python and packages.


def test_an_old_python_is_a_problem(monkeypatch: Patch) -> None:
    assert look("Python").state == "ok"
    monkeypatch.setattr(doctor_module.platform, "python_version", lambda: "3.9.2")
    assert seen("Python") == ("problem", "3.9.2 (wanted: >=3.11)")
    assert "bash setup.sh" in look("Python").advice


def test_packages_outside_their_ranges_are_named_with_both_versions(monkeypatch: Patch) -> None:
    def version(name: str) -> str:
        if name == "peft":
            raise PackageNotFoundError(name)
        return {"torch": "2.3.0+cpu", "numpy": "2.0"}.get(name, "99")

    assert look("packages").state == "ok"
    monkeypatch.setattr(doctor_module, "version", version)
    assert seen("packages") == (
        "problem",
        "peft is not installed, wanted >=0.18; torch is 2.3.0+cpu, wanted >=2.11",
    )


def test_a_package_that_breaks_at_import_is_a_problem(monkeypatch: Patch) -> None:
    def broken(name: str) -> None:
        if name == "peft":
            raise RuntimeError("undefined\n symbol")

    monkeypatch.setattr(doctor_module, "import_module", broken)
    assert seen("imports") == ("problem", "peft (RuntimeError: undefined symbol)")


def test_a_missing_extra_is_a_note_and_its_packages_are_not_imported(monkeypatch: Patch) -> None:
    imported: list[str] = []
    monkeypatch.setattr(doctor_module, "import_module", imported.append)
    assert seen("imports") == ("ok", "all can be imported")
    assert "datasets" in imported and "torch.utils.tensorboard" in imported
    assert seen("extras") == ("ok", "reporting, hub")
    imported.clear()
    monkeypatch.setattr("kvdistill.console.extras.find_spec", lambda name: None)
    assert look("imports").state == "ok"
    assert imported == ["transformers", "accelerate", "peft"]
    assert seen("extras") == ("note", "without reporting, hub")
    assert look("extras").advice == "Run: pip install 'kvdistill[reporting,hub]'"


# GPU.


@pytest.fixture
def cards(monkeypatch: Patch, tmp_path: Path) -> Callable[..., None]:
    """Pretends so many CUDA cards, a driver, and a build of torch for CUDA."""

    def pretend(num: int, driver: bool = True, cuda: str | None = "12.8", native: bool = True) -> None:
        (tmp_path / "version").write_text("NVRM")
        monkeypatch.setattr(doctor_module, "DRIVER", tmp_path / ("version" if driver else "none"))
        monkeypatch.setattr(shutil, "which", lambda name: None)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: num > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num)
        card = SimpleNamespace(name="H100", total_memory=80 * GIB)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return pretend


def test_cards_are_named_with_their_memory(cards: Callable[..., None]) -> None:
    cards(2)
    assert seen("GPU") == ("ok", f"H100 (80.0 GiB), H100 (80.0 GiB); torch {torch.__version__}")
    assert seen("several GPUs") == ("ok", "2 visible")


@pytest.mark.parametrize(
    ("driver", "cuda", "state", "found", "advice"),
    [
        (True, None, "problem", "is built for CPU", "bash setup.sh"),
        (True, "12.8", "problem", "(CUDA 12.8) finds no GPU", "KVDISTILL_TORCH"),
        (False, "12.8", "note", "none visible", "node with a GPU"),
    ],
)
def test_no_card_has_three_reasons(
    cards: Callable[..., None], driver: bool, cuda: str | None, state: str, found: str, advice: str
) -> None:
    cards(0, driver, cuda)
    finding = look("GPU")
    assert (finding.state, found in finding.found, advice in finding.advice) == (state, True, True)
    assert finding.lost.startswith("fp16 training")
    assert look("several GPUs").lost == "training on several GPUs: fewer than two are visible to torch."


def test_hidden_cards_are_a_note_and_an_apple_gpu_counts(
    cards: Callable[..., None], monkeypatch: Patch
) -> None:
    cards(0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert look("GPU").state == "note"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert seen("GPU") == ("ok", f"Apple GPU (MPS); torch {torch.__version__}")


def test_emulated_bfloat16_is_a_note(cards: Callable[..., None]) -> None:
    cards(0)
    assert seen("bfloat16") == ("ok", "computed on CPU, slowly")
    cards(1)
    assert seen("bfloat16") == ("ok", "native")
    cards(1, native=False)
    assert seen("bfloat16") == ("note", "only emulated by this GPU")


# Memory, cores, disks.


@pytest.fixture
def memory(monkeypatch: Patch, tmp_path: Path) -> Callable[..., None]:
    """Pretends so many GiB of memory, in a control group."""

    def pretend(total: int, free: int, line: str = "0::/", files: dict[str, str] | None = None) -> None:
        (tmp_path / "meminfo").write_text(
            f"MemTotal: {total * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {free * 2**20} kB\nHugePages: 0\n"
        )
        (tmp_path / "own").write_text(f"3:cpu,cpuacct:/elsewhere\n{line}\n")
        for name, text in (files or {}).items():
            (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "groups" / name).write_text(text + "\n")
        monkeypatch.setattr(doctor_module, "MEMORY_INFO", tmp_path / "meminfo")
        monkeypatch.setattr(doctor_module, "OWN_CGROUPS", tmp_path / "own")
        monkeypatch.setattr(doctor_module, "CGROUPS", tmp_path / "groups")

    return pretend


def test_memory_is_measured_against_a_7b_model(memory: Callable[..., None]) -> None:
    memory(64, 60)
    assert seen("memory") == ("ok", "64.0 GiB, 60.0 GiB free")
    memory(64, 20)
    assert look("memory").lost == "a 7B model in float32: its weights alone take 28.3 GiB of main memory."


@pytest.mark.parametrize(
    ("line", "files"),
    [
        (
            "0::/job/step",
            {"job/step/memory.max": "max", "job/memory.max": str(16 * GIB), "memory.max": str(32 * GIB)},
        ),
        (
            "9:memory:/job",
            {
                "memory/job/memory.limit_in_bytes": str(16 * GIB),
                "memory/memory.limit_in_bytes": str(2**63 - 4096),
            },
        ),
    ],
    ids=["v2", "v1"],
)
def test_the_tightest_limit_around_the_job_counts(
    memory: Callable[..., None], line: str, files: dict[str, str]
) -> None:
    memory(64, 60, line, files)
    assert seen("memory") == ("note", "64.0 GiB, 60.0 GiB free, this job may use 16.0 GiB")


def test_a_system_without_proc_is_a_note_that_claims_nothing(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor_module, "MEMORY_INFO", tmp_path / "none")
    assert look("memory").found.startswith("could not be checked (FileNotFoundError")
    assert (look("memory").state, look("memory").lost) == ("note", "")


def test_cores_are_those_that_may_be_used(monkeypatch: Patch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert seen("CPU cores") == ("note", "1 of 64 usable")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert seen("CPU cores") == ("ok", "64 of 64 usable")


def test_folders_are_tried_by_writing(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with_space(monkeypatch, 20 * GIB)
    assert seen("outputs/") == ("ok", f"{tmp_path}/outputs can be written, 20.0 GiB free")
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    with_space(monkeypatch, GIB)
    assert look("outputs/").state == "note"
    assert seen("/dev/shm") == ("ok", "1.0 GiB")
    with_space(monkeypatch, 64 * 2**20)
    assert seen("/dev/shm") == ("note", "0.1 GiB")


def test_a_folder_that_cannot_be_written_is_a_problem(monkeypatch: Patch) -> None:
    def full(**_: object) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(doctor_module.tempfile, "TemporaryFile", full)
    assert seen("logs/") == ("problem", "cannot be written ([Errno 122] Disk quota exceeded)")


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
    monkeypatch.setattr(doctor_module, "find_spec", lambda name: object())
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
    monkeypatch.setattr(doctor_module, "CHECKS", checks)
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
