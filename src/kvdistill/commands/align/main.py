"""``kvdistill align inspect | fit``: from the parsed options to the action."""

from functools import partial
from pathlib import Path

from kvdistill.config import load
from kvdistill.console.paths import require_folder


def align(action: str, path: str, overrides: list[str], output: str | None) -> None:
    """Inspect how a configuration's teachers are aligned, or fit their adapters.

    Args:
        action: ``inspect`` or ``fit``.
        path: the configuration.
        overrides: ``--section.option value`` pairs, as typed.
        output: folder for the results; None is ``outputs/align`` for ``inspect``.

    Raises:
        ValueError: if ``fit`` has no folder, or the configuration cannot be aligned.
    """
    if action == "fit" and output is None:
        raise ValueError("align fit needs --output, the folder for the adapters.")
    folder = Path(output or "outputs/align")
    require_folder("--output", folder)
    config = load(path, overrides)
    say = partial(print, flush=True)
    if action == "fit":
        from kvdistill.commands.align.fit import fit

        fit(config, folder, say)
        return
    from kvdistill.commands.align.inspect import inspect

    inspect(config, folder, say)
