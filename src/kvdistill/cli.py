"""The command line: ``kvdistill walk | demo | train | evaluate | report | doctor``."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kvdistill.console.exits import exit_code
from kvdistill.console.extras import require_extra
from kvdistill.console.messages import quoted
from kvdistill.console.paths import path_argument, require_folder

RESUME = "The same command with --resume (--training.resume true) resumes the run."


class Command(NamedTuple):
    """A command of the line."""

    does: str
    more: str
    """The end of its help: an example."""
    run: Callable[[argparse.Namespace, list[str], str], int | None]
    """Takes the parsed options, the overrides of the configuration, and the line as typed; gives the exit
    code, where not 0.
    """
    resume: str = "Nothing is resumed: the same command begins again."
    """How it is taken up after an interruption."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error that the user can correct is one sentence and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    known, overrides = parser.parse_known_args(words)
    if known.command is None:
        parser.print_help()
        return 0
    if overrides and known.command not in ("walk", "train"):
        parser.error(f"there is no option {overrides[0]}; `kvdistill {known.command} --help` lists them")
    command = COMMANDS[known.command]

    def work() -> int | None:
        _quiet()
        return command.run(known, overrides, shlex.join(["kvdistill", *words]))

    return exit_code(f"kvdistill {known.command}", work, command.resume)


def train_from_flags(program: str, description: str) -> int:
    """What the training scripts do: the configuration from short flags, then the run; an error is one
    sentence and exit code 2.
    """
    words = sys.argv[1:]

    def work() -> None:
        from kvdistill.config import from_flags

        _quiet()
        _train_and_print(from_flags(words, program, description), shlex.join([program, *words]))

    return exit_code(program, work, RESUME)


def _quiet() -> None:
    """Leave out transformers' warnings about what is done on purpose here and its bars for loading and
    saving; in a log, all bars.
    """
    if not sys.stderr.isatty():
        for library in ("HF_HUB", "HF_DATASETS"):
            os.environ.setdefault(f"{library}_DISABLE_PROGRESS_BARS", "1")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


class _TrainHelp(argparse.Action):
    """``train --help`` with every option of the configuration, which is only imported for it."""

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
        epilog="`kvdistill COMMAND --help` says more. A first look: kvdistill walk",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        takes_config = name in ("walk", "train")
        sub = commands.add_parser(
            name, help=command.does, description=command.does, epilog=command.more, add_help=not takes_config
        )
        if takes_config:
            sub.add_argument(
                "-h", "--help", action=_TrainHelp, nargs=0, help="show this help and every option, and exit"
            )
        _options(name, sub)
    return parser


def _options(name: str, command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    if name in ("walk", "train"):
        shipped = "a TOML file (shipped ones: experiments/configs), or the run.json of a run"
        add("--config", type=path_argument, help=shipped, required=name == "train")
    if name == "demo":
        add(
            "--output",
            type=path_argument,
            default="outputs/demo",
            help=f"folder for models, figures and report ({DEFAULT})",
        )
        add("--seed", type=int, default=0, help=f"seed of data, weights and order ({DEFAULT})")
        add(
            "--share",
            type=float,
            default=1.0,
            help=f"share of the training steps, to try the machinery ({DEFAULT})",
        )
    if name == "report":
        add(
            "folder", type=path_argument, help="a folder that kvdistill wrote, such as outputs/run or outputs"
        )
    if name == "evaluate":
        add(
            "--checkpoint",
            type=path_argument,
            required=True,
            help="folder of a trained student, such as outputs/run/checkpoint-ep1",
        )
        add(
            "--data",
            type=path_argument,
            required=True,
            help="a data file, or a configuration (.toml, run.json) whose data.test is meant",
        )
        add("--format", default="auto", help=f"form of the data file; auto recognises it ({DEFAULT})")
        add("--modes", default="latent,cot,direct", help=f"ways to reason, with commas ({DEFAULT})")
        add("--num", type=_count, default=None, help="only the first so many questions (default: all)")
        add("--batch-size", type=_count, default=32, help=f"questions side by side ({DEFAULT})")
        add(
            "--max-new-tokens",
            type=_new_tokens,
            default=256,
            help=f"longest answer, chain of thought included ({DEFAULT})",
        )
        add(
            "--probes",
            action="store_true",
            help="also ask whether the latents are used, and what they decode to (slots + 2 more rounds)",
        )
        where = (
            "folder for evaluation_DATA_MODE.json; records of other data there are never overwritten "
            "(default: the checkpoint's)"
        )
        add("--output", type=path_argument, default=None, help=where)


DEFAULT = "default: %(default)s"


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 12 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no whole number from 1 to 10^12")
    return int(text)


def _new_tokens(text: str) -> int:
    from kvdistill.config.sections import MOST_NEW_TOKENS

    if _count(text) > MOST_NEW_TOKENS:
        raise argparse.ArgumentTypeError(
            f"{text} is more than {MOST_NEW_TOKENS}, the longest answer that any model writes"
        )
    return int(text)


def _walk(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    from kvdistill.commands.trace import walk

    walk(known.config, overrides)


def _demo(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    require_extra("reporting", "kvdistill demo")
    require_folder("--output", Path(known.output))
    from kvdistill.commands.demo.run import demo

    demo(known.output, known.seed, command, known.share)


def _train(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    from kvdistill.config import load

    _train_and_print(load(known.config, overrides), command)


def _train_and_print(config: Any, command: str) -> None:
    from kvdistill.run.evaluation import summary_line
    from kvdistill.run.train import train

    done = train(config, command)
    if os.environ.get("RANK", "0") != "0":
        return
    for record in done.evaluations:
        print(summary_line(record))
    print(f"Everything is in {done.folder}; open {done.folder / 'report.html'}")


def _evaluate(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    from kvdistill.commands.evaluate import Question, evaluate_question

    asked = {name: value for name, value in vars(known).items() if name != "command"}
    evaluate_question(Question(**asked, progress=True), lambda line: print(line, flush=True))


def _report(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    require_extra("reporting", "kvdistill report")
    from kvdistill.reporting.report import report

    print(f"Report: {report(Path(known.folder))}")


def _doctor(known: argparse.Namespace, overrides: list[str], command: str) -> int:
    from kvdistill.commands.doctor.run import doctor

    return doctor()


OVERRIDES = """Every option of the configuration can be given as --section.option value, \
and the run.json of a run holds every option:
%(prog)s --config run.toml --training.lr 1e-4 --target.method.kind rkv \
--target.method.importance_weight 0.2"""

COMMANDS = {
    "walk": Command(
        "walk one batch from text to loss, a line a station",
        f"Without --config, pico models are walked. {OVERRIDES}",
        _walk,
    ),
    "demo": Command(
        "teach and evaluate a small student on the embedded task, with a report",
        "Example: %(prog)s --output outputs/demo",
        _demo,
    ),
    "train": Command("train as a configuration says, and evaluate what came out", OVERRIDES, _train, RESUME),
    "evaluate": Command(
        "evaluate a trained student on a data set",
        "Example: %(prog)s --checkpoint outputs/run/checkpoint-ep1 --data data/gsm8k_test.jsonl --probes",
        _evaluate,
    ),
    "report": Command(
        "write the report of a run, a demo, or a folder of experiments again",
        "Examples: %(prog)s outputs/run; %(prog)s outputs",
        _report,
    ),
    "doctor": Command(
        "say what this machine has, what would not work here, and why",
        "Exit code 1 where something has to be mended.",
        _doctor,
    ),
}

if __name__ == "__main__":
    raise SystemExit(main())
