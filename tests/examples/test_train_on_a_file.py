from collections.abc import Callable
from pathlib import Path

import pytest

from kvdistill import LatentReasoner


def test_a_student_is_trained(
    run_example: Callable[..., dict],
    base: Path,
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = run_example("train_on_a_file.py", base, rows, "mine")
    assert (tmp_path / "mine" / "report.html").is_file()
    assert "Checkpoints and report: mine" in capsys.readouterr().out
    student = LatentReasoner.from_pretrained(tmp_path / "mine" / "checkpoint-ep1")
    assert (student.config.slots, student.config.passes, student.config.latents_trained) == (6, 2, True)
    assert found["run"].model is not None
