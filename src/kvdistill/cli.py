"""The command line: ``kvdistill trace | align | sample | competence | demo | train | ...``.

It parses and dispatches only: each command imports its own modules when it runs, so ``--help`` is fast.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kvdistill.commands import runners
from kvdistill.commands.options import (
    align_options,
    competence_options,
    demo_options,
    demo_teachers_options,
    evaluate_options,
    no_options,
    report_options,
    sample_options,
    study_options,
    trace_options,
    train_options,
)
from kvdistill.console.exits import exit_code

RESUME = "The same command with --resume (--training.resume true) resumes the run."


class Command(NamedTuple):
    """One subcommand: its help texts, its options and the function that runs it."""

    does: str
    """The help in one line."""
    more: str
    """The end of the help: an example."""
    run: runners.Run
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
        runners.train_and_print(config, shlex.join([program, *words]))

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

        try:
            print(f"{parser.format_help()}\n{describe_options()}", flush=True)
        except BrokenPipeError:  # a pager or `head` has closed the pipe; nothing is flushed again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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


OVERRIDES = """Every option of the configuration can be given as --section.option value, \
and the run.json of a run holds every option:
%(prog)s --config run.toml --training.lr 1e-4 --target.method.kind rkv \
--target.method.importance_weight 0.2"""

CONFIGURED = ("trace", "align", "sample", "competence", "train")
"""Commands that take every option of the configuration."""
ALIASES = {"walk": "trace"}
"""Earlier names of commands."""
COMMANDS = {
    "trace": Command(
        "trace one batch from text to loss, one line per stage",
        f"Without --config, tiny models with random weights are traced. {OVERRIDES}",
        runners.trace,
        trace_options,
    ),
    "align": Command(
        "inspect how the teachers of a configuration are aligned, or fit their adapters for later runs",
        f"Example: %(prog)s inspect --config experiments/configs/chain_mixed.toml --teachers.a.kind live "
        f"--teachers.a.name FOLDER --bridge.kind lower. {OVERRIDES}",
        runners.configured("align.main"),
        align_options,
    ),
    "sample": Command(
        "sample chains of thought from a teacher, and keep those whose answer is right",
        f"Example: %(prog)s --config run.toml --teacher qwen --sampling.num_samples 4. {OVERRIDES}",
        runners.configured("sample"),
        sample_options,
        "The same command continues from here.",
    ),
    "competence": Command(
        "measure how good each teacher of a configuration is at each question, for routing",
        f"Example: %(prog)s --config run.toml --output outputs/competence. {OVERRIDES}",
        runners.configured("competence"),
        competence_options,
        "The same command continues from here.",
    ),
    "demo": Command(
        "teach and evaluate a small student on the embedded task, with a report",
        "Example: %(prog)s --output outputs/demo",
        runners.demo,
        demo_options,
    ),
    "demo-teachers": Command(
        "train two unlike teachers, and teach a small student from both, with a report",
        "Example: %(prog)s --output outputs/demo_teachers",
        runners.demo_teachers,
        demo_teachers_options,
        "The same command continues from here.",
    ),
    "train": Command(
        "train by a configuration, and evaluate what came out",
        OVERRIDES,
        runners.train,
        train_options,
        RESUME,
    ),
    "evaluate": Command(
        "evaluate a trained student on a data set",
        "Example: %(prog)s --checkpoint outputs/run/checkpoint-ep1 --data data/gsm8k_test.jsonl --probes",
        runners.evaluate,
        evaluate_options,
    ),
    "report": Command(
        "write the report of a run, a demo, or a folder of experiments again",
        "Examples: %(prog)s outputs/run; %(prog)s outputs",
        runners.report,
        report_options,
    ),
    "study": Command(
        "run many arms over seeds from one file, with a report and its verdicts",
        "Example: %(prog)s run experiments/studies/e1_e5.toml --output outputs/e1_e5 --jobs 2",
        runners.study,
        study_options,
        "The same command continues from here.",
    ),
    "doctor": Command(
        "say what this machine has, what would not work here, and why",
        "Exit code 1 where something has to be mended.",
        runners.doctor,
        no_options,
    ),
}

if __name__ == "__main__":
    raise SystemExit(main())
