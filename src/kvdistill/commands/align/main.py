"""``kvdistill align inspect | fit``: options and configuration to the action."""

import argparse
from functools import partial
from pathlib import Path

from kvdistill.commands.align.fit import fit
from kvdistill.commands.align.inspect import inspect
from kvdistill.config import load
from kvdistill.console.paths import require_folder

OUTPUT = "outputs/align"
"""Default folder of ``inspect``."""


def align_command(known: argparse.Namespace, overrides: list[str]) -> None:
    """Run an action.

    Args:
        known: the parsed options: ``action``, ``config``, ``output``.
        overrides: ``--section.option value`` pairs, as typed.

    Raises:
        ValueError: if ``fit`` has no folder, or the configuration aligns no teachers.
    """
    if known.action == "fit" and known.output is None:
        raise ValueError("align fit needs --output, the folder for the adapters.")
    folder = Path(known.output or OUTPUT)
    require_folder("--output", folder)
    action = {"fit": fit, "inspect": inspect}[known.action]
    action(load(known.config, overrides), folder, partial(print, flush=True))
