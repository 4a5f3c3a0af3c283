"""``kvdistill align fit``: fit the adapters of a configuration's teachers in advance, for later runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kvdistill.commands.align.prepare import align
from kvdistill.config import RunConfig
from kvdistill.run.adapters import save_adapters
from kvdistill.target.methods import Lower


def fit(config: RunConfig, folder: Path, say: Callable[[str], None]) -> Path:
    """Fit all adapters and write them with the report of their calibration.

    Args:
        config: the configuration of the runs that will use them; a ``bridge.adapters`` in it is not read.
        folder: the folder for ``bridge.adapters``; made where missing, the adapters of an earlier fit are
            replaced.
        say: prints a line.

    Returns:
        Path of the adapters.

    Raises:
        ValueError: as ``align`` does.
    """
    if isinstance(config.bridge, Lower):
        config = config.model_copy(update={"bridge": replace(config.bridge, adapters=None)})
    done = align(config, folder, say)
    path = save_adapters(config, done.step, done.record, folder)
    for teacher in done.record.teachers:
        say(
            f"{teacher.teacher}: held-out R² keys {teacher.mean_r2('keys'):.3f}, values "
            f"{teacher.mean_r2('values'):.3f}"
        )
    say(f'Adapters: {path}. A run takes them with bridge = {{kind = "lower", adapters = "{folder}"}}.')
    return path
