"""A sample of the bad inputs, by the benchmark itself; and its verdicts, which can fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from _bad_cases import Case, cases  # noqa: E402


def test_a_sample_is_refused_or_accepted_as_meant() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "bad_inputs.py"), "24", "5"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    seconds = counts.pop("seconds")
    assert seconds < 200
    assert counts["tried"] == 24 == counts["refused"] + counts["harmless"], done.stdout
    assert counts["refused"] > 10


def test_there_are_cases_of_every_command_and_each_has_its_name() -> None:
    found = cases()
    assert len({case.name for case in found}) == len(found) >= 150
    assert {case.words[0] for case in found} == {"train", "evaluate", "report", "analyze", "demo", "walk"}
    assert {case.expected for case in found} == {"refuse", "accept", "either"}


@pytest.mark.parametrize(
    ("expected", "code", "told", "kind"),
    [
        ("refuse", 2, "train: there is no file x.\n", "refused"),
        ("refuse", 0, "", "silent"),
        ("accept", 0, "", "harmless"),
        ("accept", 2, "train: no.\n", "strict"),
        ("either", 0, "", "harmless"),
        ("refuse", None, "ValueError: x", "tracebacks"),
        ("refuse", 1, "Traceback (most recent call last):\n", "tracebacks"),
        ("refuse", -6, "", "aborts"),
        ("refuse", 2, "", "unclear"),
        ("refuse", 2, "train: \x1b[31mred", "unclear"),
        ("refuse", 2, "train: [Errno 20] Not a directory", "unclear"),
        ("refuse", 2, "x" * 3000, "unclear"),
    ],
)
def test_verdicts_by_hand(expected: str, code: int | None, told: str, kind: str) -> None:
    import bad_inputs

    assert bad_inputs.verdict(Case("x", ("train",), expected), code, told) == kind


def test_a_changed_input_is_noticed(tmp_path: Path) -> None:
    import bad_inputs

    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "weights"
    file.write_bytes(b"1234")
    before = bad_inputs.digest(tmp_path)
    assert bad_inputs.digest(tmp_path) == before
    file.write_bytes(b"1235")
    assert bad_inputs.digest(tmp_path) != before
