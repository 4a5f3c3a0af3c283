import re
from collections.abc import Callable
from pathlib import Path

import pytest

import pico_students
from kvdistill.run.student import build_student


def test_two_modes_are_evaluated(
    run_example: Callable[..., dict], rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_student(pico_students.config()).save_pretrained(tmp_path / "student")
    run_example("evaluate_checkpoint.py", tmp_path / "student", rows, "out")
    pattern = r"(\w+): [\d.]+ % \([\d.]+ to [\d.]+\) of 8, ([\d.]+) passes a question"
    found = [re.fullmatch(pattern, line) for line in capsys.readouterr().out.splitlines()]
    assert [match and match[1] for match in found] == ["latent", "cot"]
    assert (tmp_path / "out" / "evaluation_examples_cot.json").is_file()
