"""The options of each command, read without anything heavy."""

import argparse
import subprocess
import sys

import pytest

from kvdistill.commands import options

HEAVY = """
import sys
import kvdistill.commands.options
print([name for name in ("torch", "transformers", "pydantic") if name in sys.modules])
"""


def parsed(add: object, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add(parser)  # pyright: ignore
    return parser.parse_args(words)


def test_defaults() -> None:
    found = parsed(options.evaluate_options, "--checkpoint", "a", "--data", "b")
    assert (found.modes, found.batch_size, found.max_new_tokens) == ("latent,cot,direct", 32, 256)
    assert found.probes is False
    assert parsed(options.demo_options).output == "outputs/demo"
    assert parsed(options.trace_options).config is None
    assert vars(parsed(options.no_options)) == {}


@pytest.mark.parametrize("words", [("--num", "0"), ("--batch-size", "x"), ("--max-new-tokens", "999999999")])
def test_counts_outside_their_bounds_are_refused(
    words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(options.evaluate_options, "--checkpoint", "a", "--data", "b", *words)
    assert words[0] in capsys.readouterr().err


def test_nothing_heavy_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", HEAVY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
