"""What ``kvdistill align`` refuses."""

from pathlib import Path

import pytest

from kvdistill.cli import main


def test_a_configuration_without_teachers(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", "inspect", *options]) == 2
    assert "kvdistill align: The configuration has no separate teacher" in capsys.readouterr().err


def test_an_output_that_is_missing_or_a_file(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["align", "fit", *options]) == 2
    assert "align fit needs --output" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["align", "inspect", *options, "--output", str(tmp_path / "file")]) == 2
    assert "--output: " in capsys.readouterr().err
