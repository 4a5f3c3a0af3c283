"""Runners import their command when it runs, and pass on what was typed."""

import argparse
from types import SimpleNamespace

import pytest

from kvdistill.cli import COMMANDS
from kvdistill.commands import runners


def test_a_configured_command_gets_options_and_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[object] = []

    def imported(name: str) -> SimpleNamespace:
        got.append(name)
        return SimpleNamespace(align_command=lambda *given: got.append(given))

    monkeypatch.setattr(runners, "import_module", imported)
    known = argparse.Namespace(action="fit")
    runners.configured("align.main")(known, ["--training.lr", "1"], "kvdistill align")
    assert got == ["kvdistill.commands.align.main", (known, ["--training.lr", "1"])]


def test_every_command_has_a_runner() -> None:
    assert all(callable(command.run) for command in COMMANDS.values())
