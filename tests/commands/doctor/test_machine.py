"""Checks of GPUs, memory, cores and disks on pretended machines."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kvdistill.commands.doctor import machine
from kvdistill.commands.doctor.finding import GIB
from pico_doctor import look, seen, with_space

Patch = pytest.MonkeyPatch


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
        monkeypatch.setattr(machine, "MEMORY_INFO", tmp_path / "meminfo")
        monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
        monkeypatch.setattr(machine, "CGROUPS", tmp_path / "groups")

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
    monkeypatch.setattr(machine, "MEMORY_INFO", tmp_path / "none")
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

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", full)
    assert seen("logs/") == ("problem", "cannot be written ([Errno 122] Disk quota exceeded)")
