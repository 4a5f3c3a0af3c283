"""A machine without settings of its own, and pretended GPUs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kvdistill.commands.doctor import machine
from kvdistill.commands.doctor.finding import GIB
from kvdistill.commands.doctor.run import SLURM_VARIABLES, TORCHRUN_VARIABLES

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def plain(monkeypatch: Patch) -> None:
    for name in (*SLURM_VARIABLES, *TORCHRUN_VARIABLES, "HF_TOKEN", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cards(monkeypatch: Patch, tmp_path: Path) -> Callable[..., None]:
    """Pretends so many CUDA cards, a driver, and a build of torch for CUDA."""

    def pretend(num: int, driver: bool = True, cuda: str | None = "12.8", native: bool = True) -> None:
        (tmp_path / "version").write_text("NVRM")
        monkeypatch.setattr(machine, "DRIVER", tmp_path / ("version" if driver else "none"))
        monkeypatch.setattr(shutil, "which", lambda name: None)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: num > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num)
        card = SimpleNamespace(name="H100", total_memory=80 * GIB)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return pretend
