"""The command line: ``kvdistill trace | align | demo | train | evaluate | report | study | doctor``.

It parses and dispatches only: each command imports its own modules when it runs, so ``--help`` is fast.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kvdistill.commands.options import (
    align_options,
    demo_options,
    demo_teachers_options,
    evaluate_options,
    no_options,
    report_options,
    study_options,
    trace_options,
    train_options,
)
from kvdistill.console.exits import exit_code
from kvdistill.console.extras import require_extra
from kvdistill.console.paths import require_folder

RESUME = "The same command with --resume (--training.resume true) resumes the run."


class Command(NamedTuple):
    """One subcommand: its help texts, its options and the function that runs it."""

    does: str
    """The help in one line."""
    more: str
    """The end of the help: an example."""
    run: Callable[[argparse.Namespace, list[str], str], int | None]
    """Takes the parsed options, the configuration overrides and the command line as typed; returns the exit
    code (None for 0).
    """
    options: Callable[[argparse.ArgumentParser], None]
    """Adds the options to the subcommand's parser."""
    resume: str = "Nothing is resumed: the same command begins again."
    """Printed after an interruption: how to resume."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        arguments: the words after ``kvdistill``; None takes ``sys.argv[1:]``.

    Returns:
        The exit code: 0, 1 where ``doctor`` finds a problem, 2 for an error that the user can correct
        (printed as one sentence), else as :func:`kvdistill.console.exits.exit_code` has it.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    words = list(arguments)
    parser = _parser()
    known, overrides = parser.parse_known_args(words)
    if known.command is None:
        parser.print_help()
        return 0
    name = ALIASES.get(str(known.command), str(known.command))
    if overrides and name not in CONFIGURED:
        parser.error(f"there is no option {overrides[0]}; `kvdistill {name} --help` lists them")
    command = COMMANDS[name]

    def work() -> int | None:
        _quiet()
        return command.run(known, overrides, shlex.join(["kvdistill", *words]))

    return exit_code(f"kvdistill {name}", work, command.resume)


def train_from_flags(program: str, description: str, multi_teacher: bool = False) -> int:
    """Entry point of the training scripts: build the configuration from short flags, then train.

    Args:
        program: name of the script, for messages and ``--help``.
        description: head of ``--help``.
        multi_teacher: whether the script trains from several teachers.

    Returns:
        The exit code, as for :func:`main`.
    """
    words = sys.argv[1:]

    def work() -> None:
        from kvdistill.config import from_flags

        _quiet()
        config = from_flags(words, program, description, multi_teacher)
        _train_and_print(config, shlex.join([program, *words]))

    return exit_code(program, work, RESUME)


def _quiet() -> None:
    """Silence transformers' warnings and its loading and saving bars; outside a terminal, hub bars too."""
    # The libraries read these variables when they are imported, so they are set first.
    if not sys.stderr.isatty():
        for library in ("HF_HUB", "HF_DATASETS"):
            os.environ.setdefault(f"{library}_DISABLE_PROGRESS_BARS", "1")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


class _TrainHelp(argparse.Action):
    """``--help`` with every option of the configuration, which is imported only when it is asked for."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: object,
        values: object,
        option_string: str | None = None,
    ) -> None:
        from kvdistill.config.options import describe_options

        print(f"{parser.format_help()}\n{describe_options()}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kvdistill",
        description="Teach a small language model to reason in a few latent slots by distilling KV caches.",
        epilog="`kvdistill COMMAND --help` lists its options. A first look: kvdistill trace",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        takes_config = name in CONFIGURED
        sub = commands.add_parser(
            name,
            aliases=[alias for alias, meant in ALIASES.items() if meant == name],
            help=command.does,
            description=command.does,
            epilog=command.more,
            add_help=not takes_config,
        )
        if takes_config:
            sub.add_argument(
                "-h", "--help", action=_TrainHelp, nargs=0, help="show this help and every option, and exit"
            )
        command.options(sub)
    return parser


def _trace(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    from kvdistill.commands.trace import trace

    trace(known.config, overrides)


def _align(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    from kvdistill.commands.align.main import align_command

    align_command(known, overrides)


def _demo(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    require_extra("reporting", "kvdistill demo")
    require_folder("--output", Path(known.output))
    from kvdistill.commands.demo.run import demo

    demo(known.output, known.seed, command, known.share)


def _demo_teachers(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    require_extra("reporting", "kvdistill demo-teachers")
    require_folder("--output", Path(known.output))
    from kvdistill.commands.demo_teachers import demo_teachers

    demo_teachers(known.output, known.seed, known.study, known.jobs, command)


def _train(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    from kvdistill.config import load

    _train_and_print(load(known.config, overrides), command)


def _train_and_print(config: Any, command: str) -> None:
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


def _evaluate(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    from kvdistill.commands.evaluate import Question, evaluate_question

    asked = {name: value for name, value in vars(known).items() if name != "command"}
    evaluate_question(Question(**asked, progress=True), lambda line: print(line, flush=True))


def _report(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    require_extra("reporting", "kvdistill report")
    from kvdistill.reporting.report import report

    print(f"Report: {report(Path(known.folder))}")


def _study(known: argparse.Namespace, overrides: list[str], command: str) -> int:
    from kvdistill.commands.study.main import study

    return study(known)


def _doctor(known: argparse.Namespace, overrides: list[str], command: str) -> int:
    from kvdistill.commands.doctor.run import doctor

    return doctor()


OVERRIDES = """Every option of the configuration can be given as --section.option value, \
and the run.json of a run holds every option:
%(prog)s --config run.toml --training.lr 1e-4 --target.method.kind rkv \
--target.method.importance_weight 0.2"""

CONFIGURED = ("trace", "align", "train")
"""Commands that take every option of the configuration."""
ALIASES = {"walk": "trace"}
"""Earlier names of commands."""
COMMANDS = {
    "trace": Command(
        "trace one batch from text to loss, one line per stage",
        f"Without --config, tiny models with random weights are traced. {OVERRIDES}",
        _trace,
        trace_options,
    ),
    "align": Command(
        "inspect how the teachers of a configuration are aligned, or fit their adapters for later runs",
        f"Example: %(prog)s inspect --config experiments/configs/chain_mixed.toml --teachers.a.kind live "
        f"--teachers.a.name FOLDER --bridge.kind lower. {OVERRIDES}",
        _align,
        align_options,
    ),
    "demo": Command(
        "teach and evaluate a small student on the embedded task, with a report",
        "Example: %(prog)s --output outputs/demo",
        _demo,
        demo_options,
    ),
    "demo-teachers": Command(
        "train two unlike teachers, and teach a small student from both, with a report",
        "Example: %(prog)s --output outputs/demo_teachers",
        _demo_teachers,
        demo_teachers_options,
        "The same command continues from here.",
    ),
    "train": Command(
        "train by a configuration, and evaluate what came out", OVERRIDES, _train, train_options, RESUME
    ),
    "evaluate": Command(
        "evaluate a trained student on a data set",
        "Example: %(prog)s --checkpoint outputs/run/checkpoint-ep1 --data data/gsm8k_test.jsonl --probes",
        _evaluate,
        evaluate_options,
    ),
    "report": Command(
        "write the report of a run, a demo, or a folder of experiments again",
        "Examples: %(prog)s outputs/run; %(prog)s outputs",
        _report,
        report_options,
    ),
    "study": Command(
        "run many arms over seeds from one file, with a report and its verdicts",
        "Example: %(prog)s run experiments/studies/e1_e5.toml --output outputs/e1_e5 --jobs 2",
        _study,
        study_options,
        "The same command continues from here.",
    ),
    "doctor": Command(
        "say what this machine has, what would not work here, and why",
        "Exit code 1 where something has to be mended.",
        _doctor,
        no_options,
    ),
}

if __name__ == "__main__":
    raise SystemExit(main())
