"""The public names, and that they cost nothing before they are used."""

import subprocess
import sys
from pathlib import Path

import pytest

import kvdistill

ROOT = Path(__file__).resolve().parents[1]
LIGHT = """
import sys, kvdistill
assert {"LatentReasoner", "capture_kv", "__version__"} <= set(dir(kvdistill))
heavy = {"torch", "transformers", "peft", "numpy", "pydantic"} & set(sys.modules)
assert not heavy, heavy
from kvdistill import RKV
assert "transformers" not in sys.modules
"""


def test_the_import_loads_no_library() -> None:
    command = [sys.executable, "-c", LIGHT]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", kvdistill.__all__)
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(kvdistill, name)
    assert found.__doc__
    assert found.__module__.startswith("kvdistill.")
    assert found.__name__ == {"load_config": "load"}.get(name, name)
    assert name in dir(kvdistill)
    assert vars(kvdistill)[name] is found


def test_every_compressor_is_public() -> None:
    from kvdistill import compress

    methods = {method.__name__ for method in compress.CompressorMethod.__args__}
    assert methods <= set(kvdistill.__all__)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'kvdistill' has no attribute 'Reasoner'"):
        _ = kvdistill.Reasoner  # pyright: ignore[reportAttributeAccessIssue]
