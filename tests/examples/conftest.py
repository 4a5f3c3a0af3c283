"""A tiny model and a tiny data file, for examples that name both."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pico_students

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, object]]:
    """Run an example with its arguments in a temporary folder; returns its variables."""

    def run(name: str, *arguments: object) -> dict[str, object]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return runpy.run_path(str(ROOT / "examples" / name))

    return run


@pytest.fixture(scope="session")
def base(session_tmp: Path) -> Path:
    """A causal language model with a tokenizer for the words of the embedded task."""
    return pico_students.save_base(session_tmp / "examples_base")


@pytest.fixture(scope="session")
def rows(session_tmp: Path) -> Path:
    """Eight rows of the embedded task as a JSON-lines file."""
    path = session_tmp / "examples.jsonl"
    made = pico_students.TASK.make(8, "train", 0)
    lines = [{"question": e.question, "steps": list(e.steps), "answer": e.answer} for e in made]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
