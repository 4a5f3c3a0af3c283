"""The options of each subcommand. Imports nothing heavy, so ``--help`` is fast."""

import argparse

from kvdistill.console.messages import quoted
from kvdistill.console.paths import path_argument

DEFAULT = "default: %(default)s"
SHIPPED = "a TOML file (shipped ones: experiments/configs), or the run.json of a run"


def trace_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``kvdistill trace``."""
    parser.add_argument("--config", type=path_argument, help=SHIPPED)


def align_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``kvdistill align``."""
    parser.add_argument(
        "action",
        choices=("inspect", "fit"),
        help="inspect: print and draw what will be done to each teacher, and what it is worth; fit: write "
        "the adapters, which runs take with bridge.adapters",
    )
    parser.add_argument("--config", type=path_argument, help=SHIPPED, required=True)
    parser.add_argument(
        "--output",
        type=path_argument,
        help="folder for the results (default of inspect: outputs/align; fit needs one)",
    )


def sample_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``kvdistill sample``."""
    add = parser.add_argument
    add("--config", type=path_argument, help=SHIPPED, required=True)
    add("--teacher", help="short name of the teacher (default: the only separate one)")
    where = "folder for samples.jsonl and samples.json (default: the teacher's traces)"
    add("--output", type=path_argument, help=where)


def competence_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``kvdistill competence``."""
    add = parser.add_argument
    add("--config", type=path_argument, help=SHIPPED, required=True)
    add("--output", type=path_argument, required=True, help="folder for competence.jsonl")
    where = (
        "chains that a teacher has sampled: its share of right ones is a figure too; once per teacher "
        "(default: the teachers' traces)"
    )
    add("--traces", action="append", default=[], metavar="NAME=FOLDER", help=where)


def train_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``kvdistill train``."""
    parser.add_argument("--config", type=path_argument, help=SHIPPED, required=True)


def demo_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``kvdistill demo``."""
    add = parser.add_argument
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


def demo_teachers_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``kvdistill demo-teachers``."""
    add = parser.add_argument
    add(
        "--output",
        type=path_argument,
        default="outputs/demo_teachers",
        help=f"folder for models, figures and report ({DEFAULT})",
    )
    add("--seed", type=int, default=0, help=f"seed of data, weights and order ({DEFAULT})")
    add("--jobs", type=_count, default=2, help=f"runs side by side ({DEFAULT})")
    add(
        "--study",
        type=path_argument,
        default="experiments/studies/teachers.toml",
        help=f"the study file with both teachers and all arms ({DEFAULT})",
    )


def report_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``kvdistill report``."""
    add = parser.add_argument
    add("folder", type=path_argument, help="a folder that kvdistill wrote, such as outputs/run or outputs")


def evaluate_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``kvdistill evaluate``."""
    add = parser.add_argument
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


def study_options(parser: argparse.ArgumentParser) -> None:
    """The subcommands of ``kvdistill study`` with their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    file_help = "a study file (shipped ones: experiments/studies)"
    run = actions.add_parser("run", help="run what is left of a study, and write its report")
    run.add_argument("file", type=path_argument, help=file_help)
    run.add_argument("--output", type=path_argument, required=True, help="the study's folder")
    run.add_argument("--jobs", type=_count, help="runs side by side (default: the file's, else 1)")
    run.add_argument("--minutes", type=_minutes, help="no run begins after so long (default: the file's)")
    run.add_argument("--arms", help="only these arms: names, experiments or patterns, with commas")
    run.add_argument("--seeds", help="only these seeds, such as 0-7 or 0,2 (default: all)")
    run.add_argument(
        "--array-task",
        metavar="I/N",
        help="the I-th of N shares of the seeds, from 0 (default: SLURM_ARRAY_TASK_ID, a task a seed)",
    )
    run.add_argument("--dry-run", action="store_true", help="print the runs in their order, and run none")
    report = actions.add_parser("report", help="write the report of a study again")
    report.add_argument("folder", type=path_argument, help="the study's folder, or an export of it")
    pilot = actions.add_parser("pilot", help="run a few arms, and say whether the task tells methods apart")
    pilot.add_argument("file", type=path_argument, help=file_help)
    pilot.add_argument("--output", type=path_argument, required=True, help="the pilot's folder")
    pilot.add_argument("--jobs", type=_count, help="runs side by side (default: the file's, else 1)")
    export = actions.add_parser("export", help="copy a study's records without its checkpoints")
    export.add_argument("folder", type=path_argument, help="the study's folder")
    export.add_argument("output", type=path_argument, help="where the records go, at most 20 MiB")


def no_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``kvdistill doctor``: none."""


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 12 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no integer from 1 to 10^12")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no number of minutes above 0")
    return minutes


def _new_tokens(text: str) -> int:
    from kvdistill.config.sections import MOST_NEW_TOKENS  # only when the option is given: it loads torch

    if _count(text) > MOST_NEW_TOKENS:
        raise argparse.ArgumentTypeError(
            f"{text} is more than {MOST_NEW_TOKENS}, the longest answer that any model writes"
        )
    return int(text)
