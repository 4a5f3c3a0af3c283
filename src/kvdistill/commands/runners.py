"""What runs each subcommand: it imports the command's modules only then."""

import argparse
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from kvdistill.console.extras import require_extra
from kvdistill.console.paths import require_folder

Run = Callable[[argparse.Namespace, list[str], str], int | None]
"""Takes the parsed options, the configuration overrides and the command line as typed; returns the exit code
(None for 0).
"""


def trace(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    """``kvdistill trace``."""
    from kvdistill.commands.trace import trace

    trace(known.config, overrides)


def configured(name: str) -> Run:
    """The runner of a command whose module has a function ``NAME_command(known, overrides)``."""

    def run(known: argparse.Namespace, overrides: list[str], command: str) -> None:
        module = import_module(f"kvdistill.commands.{name}")
        getattr(module, f"{name.partition('.')[0]}_command")(known, overrides)

    return run


def demo(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    """``kvdistill demo``."""
    require_extra("reporting", "kvdistill demo")
    require_folder("--output", Path(known.output))
    from kvdistill.commands.demo.run import demo

    demo(known.output, known.seed, command, known.share)


def demo_teachers(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    """``kvdistill demo-teachers``."""
    require_extra("reporting", "kvdistill demo-teachers")
    require_folder("--output", Path(known.output))
    from kvdistill.commands.demo_teachers import demo_teachers

    demo_teachers(known.output, known.seed, known.study, known.jobs, command)


def train(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    """``kvdistill train``."""
    from kvdistill.config import load

    train_and_print(load(known.config, overrides), command)


def train_and_print(config: Any, command: str) -> None:
    """Train, then print the evaluations and where the report is (rank 0 only)."""
    from kvdistill.run.evaluation import summary_line
    from kvdistill.run.train import train

    done = train(config, command)
    # Rank 0 alone prints: it is the one that evaluates.
    if os.environ.get("RANK", "0") != "0":
        return
    for record in done.evaluations:
        print(summary_line(record))
    page = done.folder / "report.html"
    if page.is_file():
        print(f"Everything is in {done.folder}; open {page}")
    else:
        print(f"Everything is in {done.folder}; `kvdistill report {done.folder}` writes its report")


def evaluate(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    """``kvdistill evaluate``."""
    from kvdistill.commands.evaluate import Question, evaluate_question

    asked = {name: value for name, value in vars(known).items() if name != "command"}
    evaluate_question(Question(**asked, progress=True), lambda line: print(line, flush=True))


def report(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    """``kvdistill report``."""
    require_extra("reporting", "kvdistill report")
    from kvdistill.reporting.report import report

    print(f"Report: {report(Path(known.folder))}")


def study(known: argparse.Namespace, overrides: list[str], command: str) -> int:
    """``kvdistill study``."""
    from kvdistill.commands.study.main import study

    return study(known)


def doctor(known: argparse.Namespace, overrides: list[str], command: str) -> int:
    """``kvdistill doctor``."""
    from kvdistill.commands.doctor.run import doctor

    return doctor()
