"""Dispatch of ``kvdistill study run | report | pilot | export``."""

import argparse
from pathlib import Path

from kvdistill.commands.study.run import Request, run_study
from kvdistill.console.extras import require_extra
from kvdistill.console.paths import require_folder
from kvdistill.console.wording import size_text


def study(known: argparse.Namespace) -> int:
    """Run one action of ``kvdistill study``.

    Args:
        known: the parsed options.

    Returns:
        The exit code.

    Raises:
        ValueError: if an option or a file is wrong.
    """
    options = {name: value for name, value in vars(known).items() if name not in ("command", "action")}
    if "output" in options:
        require_folder("--output", Path(options["output"]))
    if known.action == "run":
        return run_study(Request(**options))
    # The other actions need statistics and figures.
    require_extra("reporting", f"kvdistill study {known.action}")
    if known.action == "report":
        _report(Path(known.folder))
    elif known.action == "export":
        _export(Path(known.folder), Path(known.output))
    else:
        from kvdistill.commands.study.pilot import run_pilot

        return run_pilot(known.file, known.output, known.jobs)
    return 0


def _report(folder: Path) -> None:
    from kvdistill.reporting.studies.study_report import write_study_report

    print(f"Report: {write_study_report(folder)}")


def _export(folder: Path, output: Path) -> None:
    from kvdistill.commands.study.export import export

    print(f"{output} holds {size_text(export(folder, output))} of records.")
