import runpy
import sys

import pytest


def test_the_module_is_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kvdistill", "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("kvdistill", run_name="__main__")
    assert stopped.value.code == 0
    assert "usage: kvdistill" in capsys.readouterr().out
