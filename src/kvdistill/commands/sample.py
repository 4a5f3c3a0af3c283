"""``kvdistill sample``: chains of thought that a teacher writes itself, kept where their answer is right."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kvdistill.config import RunConfig, TeacherSection, live_of, load
from kvdistill.console.paths import require_folder
from kvdistill.records.traces import SamplesReport
from kvdistill.run.preparation import questions_of
from kvdistill.run.samples import require_files
from kvdistill.run.sampling import sample_chains
from kvdistill.run.writing import open_writer


def sample_command(known: argparse.Namespace, overrides: list[str]) -> None:
    """Run ``kvdistill sample``.

    Args:
        known: the parsed options.
        overrides: ``--section.option value`` pairs, as typed.

    Raises:
        ValueError: as ``sample`` does.
    """
    config = load(known.config, overrides)
    name, section = separate_teacher(config, known.teacher)
    output = known.output or section.traces
    if output is None:
        raise ValueError(f"--output: name a folder for the chains; teachers.{name} has no traces.")
    require_folder("--output", Path(output))
    sample(config, name, Path(output), partial(print, flush=True))


def sample(config: RunConfig, teacher: str | None, folder: Path, say: Callable[[str], None]) -> SamplesReport:
    """Sample chains for the training and validation questions of a configuration.

    Args:
        config: the configuration, with the teacher, the data and ``sampling``.
        teacher: the teacher's short name; None where there is only one separate model.
        folder: where ``samples.jsonl`` and ``samples.json`` are written.
        say: prints a line.

    Returns:
        The report.

    Raises:
        ValueError: if the teacher is not in the configuration, or is never right.
    """
    name, section = separate_teacher(config, teacher)
    require_files(config.data)
    writer = open_writer(name, section, config.data)
    report = sample_chains(writer, questions_of(config), folder, config.sampling, say)
    for line in lines_of(report):
        say(line)
    say(f'A teacher reads them with reads = "own", traces = "{folder}".')
    return report


def separate_teacher(config: RunConfig, teacher: str | None) -> tuple[str, TeacherSection]:
    """A separate teacher of a configuration.

    Args:
        config: the configuration.
        teacher: its short name; None where there is only one.

    Returns:
        Name and section.

    Raises:
        ValueError: names the teachers that there are.
    """
    live = live_of(config.all_teachers)
    if not live:
        raise ValueError(
            "The configuration has no separate teacher that could write. Add one: --teachers.NAME.kind live "
            "--teachers.NAME.name FOLDER."
        )
    if teacher is None and len(live) > 1:
        raise ValueError(
            f"--teacher: the configuration has {len(live)} ({', '.join(live)}): name one of them."
        )
    name = teacher or next(iter(live))
    if name not in live:
        raise ValueError(f"--teacher: there is no teacher {name!r}. The configuration has {', '.join(live)}.")
    return name, live[name]


def lines_of(report: SamplesReport) -> list[str]:
    """The report as text.

    Args:
        report: what came of sampling.

    Returns:
        One line for each fact.
    """
    lines = [
        f"{report.teacher}: {report.sampled} chains for {report.questions} questions, "
        f"{100 * report.right_share:.1f} % right",
        f"  two right and distinct chains: {100 * report.share_with_two_right:.1f} % of the questions; none: "
        f"{100 * report.share_with_none:.1f} %",
        f"  distinct: {100 * report.distinct_share:.1f} % of the right chains; equal to the data's own: "
        f"{100 * report.gold_overlap:.1f} % of those kept",
    ]
    if report.too_few:
        first = ", ".join(report.too_few[:3])
        lines.append(
            f"  fewer than {report.min_right}: {len(report.too_few)} questions (first: {first}); they are "
            "listed in samples.json"
        )
    return lines
