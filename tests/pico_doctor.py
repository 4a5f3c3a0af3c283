"""Checks of the doctor, one at a time."""

import shutil

import pytest

from kvdistill.commands.doctor import run
from kvdistill.commands.doctor.finding import Finding


def look(what: str) -> Finding:
    """One check as ``diagnose`` makes it."""
    return run._made(what, run.CHECKS[what])


def seen(what: str) -> tuple[str, str]:
    """State and text of a finding."""
    finding = look(what)
    return finding.state, finding.found


def with_space(patch: pytest.MonkeyPatch, num_bytes: int) -> None:
    """Pretend a disk with so many bytes free."""
    patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(num_bytes, 0, num_bytes))
