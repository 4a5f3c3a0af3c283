"""The command line: ``kvdistill walk | demo | train | evaluate | report | doctor``."""

import argparse
import errno
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kvdistill.messages import explain_os_error, printable, quoted


class Command(NamedTuple):
    """A command of the line."""

    does: str
    more: str
    """The end of its help: an example."""
    run: Callable[[argparse.Namespace, list[str], str], int | None]
    """Takes the parsed options, the overrides of the configuration, and the line as typed; gives the exit code, where not 0."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error that the user can mend is one sentence and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    known, overrides = parser.parse_known_args(words)
    if known.command is None:
        parser.print_help()
        return 0
    if overrides and known.command not in ("walk", "train"):
        parser.error(f"there is no option {overrides[0]}; `kvdistill {known.command} --help` lists them")
    _quiet()
    line = shlex.join(["kvdistill", *words])
    return _told(f"kvdistill {known.command}", lambda: COMMANDS[known.command].run(known, overrides, line))


def _quiet() -> None:
    """Warnings of transformers about what is done on purpose here, and its bars for loading and saving, are left out."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kvdistill",
        description="Teach a small language model to reason in a few latent slots by distilling KV caches.",
        epilog="`kvdistill COMMAND --help` says more. A first look: kvdistill walk",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        _options(name, commands.add_parser(name, help=command.does, description=command.does, epilog=command.more))
    return parser


def _options(name: str, command: argparse.ArgumentParser) -> None:
    if name in ("walk", "train"):
        command.add_argument(
            "--config", help="a TOML file (shipped ones: experiments/configs), or the run.json of a run", required=name == "train"
        )
    if name == "demo":
        command.add_argument("--output", default="outputs/demo", help="folder for models, figures and report (default: outputs/demo)")
        command.add_argument("--seed", type=int, default=0, help="seed of data, weights and order (default: 0)")
        command.add_argument("--share", type=float, default=1.0, help="share of the training steps, to try the machinery (default: 1)")
    if name == "report":
        command.add_argument("folder", help="a folder that kvdistill wrote, such as outputs/run or outputs")
    if name == "evaluate":
        command.add_argument("--checkpoint", required=True, help="folder of a trained student, such as outputs/run/checkpoint-ep1")
        command.add_argument("--data", required=True, help="a data file, or a configuration (.toml, run.json) whose data.test is meant")
        command.add_argument("--format", default="auto", help="form of the data file (default: recognised)")
        command.add_argument("--modes", default="latent,cot,direct", help="ways to reason, with commas (default: all three)")
        command.add_argument("--num", type=_count, default=None, help="only the first so many questions")
        command.add_argument("--batch-size", type=_count, default=32, help="questions side by side (default: 32)")
        command.add_argument(
            "--max-new-tokens", type=_new_tokens, default=256, help="longest answer, chain of thought included (default: 256)"
        )
        command.add_argument("--probes", action="store_true", help="also ask whether the latents are used, and what they say")
        command.add_argument("--output", default=None, help="folder for the results (default: the checkpoint's)")


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 12 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no whole number from 1 to 10^12")
    return int(text)


def _new_tokens(text: str) -> int:
    from kvdistill.config.sections import MOST_NEW_TOKENS

    if _count(text) > MOST_NEW_TOKENS:
        raise argparse.ArgumentTypeError(f"{text} is more than {MOST_NEW_TOKENS}, the longest answer that any model writes")
    return int(text)


def _walk(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    from kvdistill.walk import walk

    walk(known.config, overrides)


def _demo(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    from kvdistill.demo import demo

    demo(known.output, known.seed, command, known.share)


def _train(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    from kvdistill.config import load

    _train_and_tell(load(known.config, overrides), command)


def _train_and_tell(config: Any, command: str) -> None:
    import os

    from kvdistill.runs import train

    done = train(config, command)
    if os.environ.get("RANK", "0") != "0":
        return
    for record in done.evaluations:
        print(_line(record))
    print(f"Everything is in {done.folder}; open {done.folder / 'report.html'}")


def train_from_flags(program: str, description: str) -> int:
    """What the training scripts do: the configuration from short flags, then the run; an error is one sentence and exit code 2."""
    from kvdistill.config import from_flags

    _quiet()
    words = sys.argv[1:]
    return _told(program, lambda: _train_and_tell(from_flags(words, program, description), shlex.join([program, *words])))


def _told(program: str, work: Callable[[], int | None]) -> int:
    """The exit code of ``work``; what the user can mend is a sentence and 2, an interruption 130."""
    import torch

    try:
        return work() or 0
    except KeyboardInterrupt:
        print(
            f"{program}: interrupted; a training run goes on with the same command and --resume (--training.resume true).", file=sys.stderr
        )
        return 130
    except torch.OutOfMemoryError as error:
        advice = "lower --training.batch_size (and raise gradient_accumulation_steps), or set --training.gradient_checkpointing true"
        print(f"{program}: out of memory: {advice}. {error}", file=sys.stderr)
        return 2
    except (ValueError, OSError, FloatingPointError) as error:
        print(printable(f"{program}: {_in_words(error)}"), file=sys.stderr)
        return 2


def _in_words(error: Exception) -> str:
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return explain_os_error(error) if isinstance(error, OSError) else str(error)
    where = "" if error.filename is None else f" for {error.filename}"
    return f"there is no room on the disk{where}. Free some, then run the same command (a training run goes on with --resume)."


def _evaluate(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    from pathlib import Path

    from kvdistill.evaluation.evaluate import Evaluator
    from kvdistill.evaluation.probes import probe
    from kvdistill.latent.reasoner import LatentReasoner
    from kvdistill.runs import to_device, write_evaluation
    from kvdistill.samples import read_data

    modes = known.modes.split(",")
    if wrong := [mode for mode in modes if mode not in ("latent", "cot", "direct")]:
        raise ValueError(f"--modes: there is no mode {wrong[0]!r}; choose from latent, cot, direct.")
    modes = list(dict.fromkeys(modes))  # each is evaluated once
    checkpoint = Path(known.checkpoint)
    if not checkpoint.is_dir():
        what = "is a file; name the folder that holds it" if checkpoint.exists() else "does not exist: check the path"
        raise ValueError(f"--checkpoint: {checkpoint} {what}, such as outputs/run/checkpoint-ep1.")
    section, data = _asked(known)
    model = to_device(LatentReasoner.from_pretrained(known.checkpoint))
    folder = Path(known.output or known.checkpoint)
    samples = read_data(section, data, model, folder)[: known.num]
    evaluator = Evaluator(batch_size=known.batch_size, max_new_tokens=known.max_new_tokens, progress=True)
    for mode in modes:
        print(_line(write_evaluation(evaluator, model, samples, mode, folder, Path(known.data).stem)))
    if known.probes:
        probe(model, samples, evaluator).write(folder / "probes.json")
        print(f"probes: {folder / 'probes.json'}")


def _asked(known: argparse.Namespace) -> tuple[Any, Any]:
    """How data are read, and which."""
    from pathlib import Path

    from kvdistill.config import DataSection, FileData, load

    if Path(known.data).suffix != ".toml" and Path(known.data).name != "run.json":
        data = FileData(path=known.data, format=known.format)
        return DataSection(train=data, max_length=None), data
    section = load(known.data).data
    if section.test is None:
        raise ValueError(f"--data: {known.data} names no data.test.")
    return section, section.test


def _line(record: object) -> str:
    from kvdistill.record import EvaluationRecord

    assert isinstance(record, EvaluationRecord)
    slow = "" if record.ms_batch1 is None else f", {record.ms_batch1:.1f} ms alone, {record.ms_batch32:.1f} ms in 32s"
    return (
        f"{record.mode:>8} on {record.data_set}: {100 * record.accuracy:.1f} % right of {record.num} "
        f"(95 %: {100 * record.low:.1f}-{100 * record.high:.1f}), {record.sequential_passes_mean:.1f} passes, "
        f"{record.tokens_mean:.0f} tokens a question{slow}"
    )


OVERRIDES = """Every option of the configuration can be given as --section.option value; sections are model, data, latent, target, loss,
training and evaluation, and the run.json of a run holds every option: %(prog)s --config run.toml --training.lr 1e-4
--target.method.kind rkv --target.method.importance_weight 0.2"""


def _report(known: argparse.Namespace, overrides: list[str], command: str) -> None:
    from pathlib import Path

    from kvdistill.reporting.report import report

    print(f"Report: {report(Path(known.folder))}")


def _doctor(known: argparse.Namespace, overrides: list[str], command: str) -> int:
    from kvdistill.doctor import doctor

    return doctor()


COMMANDS = {
    "walk": Command("walk one batch from text to loss, a line a station", f"Without --config, pico models are walked. {OVERRIDES}", _walk),
    "demo": Command(
        "teach and evaluate a small student on the embedded task, with a report", "Example: %(prog)s --output outputs/demo", _demo
    ),
    "train": Command("train as a configuration says, and evaluate what came out", OVERRIDES, _train),
    "evaluate": Command(
        "evaluate a trained student on a data set",
        "Example: %(prog)s --checkpoint outputs/run/checkpoint-ep1 --data data/gsm8k_test.jsonl --probes",
        _evaluate,
    ),
    "report": Command(
        "write the report of a run, a demo, or a folder of experiments again", "Examples: %(prog)s outputs/run; %(prog)s outputs", _report
    ),
    "doctor": Command(
        "say what this machine has, what would not work here, and why", "Exit code 1 where something has to be mended.", _doctor
    ),
}

if __name__ == "__main__":
    raise SystemExit(main())
