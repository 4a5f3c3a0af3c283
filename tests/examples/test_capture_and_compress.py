from collections.abc import Callable
from pathlib import Path

import pytest

import pico_students


def test_half_the_slots(
    run_example: Callable[..., dict], base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = pico_students.TASK.make(1, "train", 0)[0].question
    found = run_example("capture_and_compress.py", base, text)
    words = len(text.split()) - 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(", ")[0] for line in lines] == [f"{words // 2} slots", f"{words} slots"]
    assert found["kv"].layers[0].importance is not None
