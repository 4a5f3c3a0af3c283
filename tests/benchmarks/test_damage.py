"""A few damages, one of each outcome: refused, harmless, and what the benchmark would call silent."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "damage.py"


def test_every_damage_of_the_scheduler_and_the_notes_is_refused_or_harmless() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--only", "scheduler.pt", "--flips", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["tried"] == counts["refused"] > 20
    assert counts["tracebacks"] == counts["silent"] == counts["unnoticed"] == counts["harmless"] == 0


JUDGED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import damage
def fail(error):
    raise error
folder = Path("/some/run")
for work in (
    lambda: "same",
    lambda: "other",
    lambda: fail(ValueError("/some/run/model.safetensors is damaged. Copy it again.")),
    lambda: fail(ValueError("no file is named")),
    lambda: fail(KeyError("place")),
):
    print(damage.judged(work, "same", folder)[0])
"""


def test_outcomes_are_told_apart() -> None:
    done = subprocess.run(
        [sys.executable, "-c", JUDGED, str(BENCHMARK.parent)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.stdout.split() == ["harmless", "silent", "refused", "tracebacks", "tracebacks"], done.stderr
