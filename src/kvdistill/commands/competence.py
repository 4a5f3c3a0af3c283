"""``kvdistill competence``: a table of how good each teacher is at each question."""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import fmean

from kvdistill.config import RunConfig, live_of, load
from kvdistill.console.paths import require_folder
from kvdistill.records.competence import CompetenceTable
from kvdistill.records.traces import QuestionTraces
from kvdistill.run.competence import measure_competence, own_chains
from kvdistill.run.preparation import chains_of, questions_of
from kvdistill.run.samples import require_files
from kvdistill.run.writers import Writers


def competence_command(known: argparse.Namespace, overrides: list[str]) -> None:
    """Run ``kvdistill competence``.

    Args:
        known: the parsed options.
        overrides: ``--section.option value`` pairs, as typed.

    Raises:
        ValueError: as ``competence`` does.
    """
    folder = Path(known.output)
    require_folder("--output", folder)
    pairs = [text.partition("=") for text in known.traces]
    for name, sign, path in pairs:
        if not (name and sign and path):
            raise ValueError(f"--traces: {name!r} is no NAME=FOLDER, such as --traces qwen=outputs/samples.")
    traces = {name: Path(path) for name, _, path in pairs}
    competence(load(known.config, overrides), folder, traces, partial(print, flush=True))


def competence(
    config: RunConfig, folder: Path, traces: Mapping[str, Path], say: Callable[[str], None]
) -> CompetenceTable:
    """Measure the separate teachers of a configuration on its training and validation questions.

    Args:
        config: the configuration, with teachers and data.
        folder: where ``competence.jsonl`` is written.
        traces: by teacher, the folder of the chains that it has sampled; default: the ``traces`` of its
            section.
        say: prints a line.

    Returns:
        The table.

    Raises:
        ValueError: if there is no separate teacher, or the folder holds a table of other teachers or data.
    """
    live = live_of(config.all_teachers)
    if len(live) < 2:
        raise ValueError(
            f"A table compares teachers, and the configuration has {len(live) or 'no'} separate "
            f"teacher{'s' * (len(live) != 1)}: name two or more in [teachers.NAME]."
        )
    unknown = [name for name in traces if name not in live]
    if unknown:
        raise ValueError(
            f"--traces: there is no teacher {unknown[0]!r}. The configuration has {', '.join(live)}."
        )
    require_files(config.data)
    questions = questions_of(config)
    teachers = Writers(live, config.data)
    drawn = {**chains_of(teachers, say), **_named_chains(teachers, traces)}
    table = measure_competence(teachers, questions, drawn, folder, say)
    for line in lines_of(table, drawn):
        say(line)
    say(f'Table: {folder}. A run takes it with fusion = {{kind = "learnable", competence = "{folder}"}}.')
    return table


def _named_chains(teachers: Writers, traces: Mapping[str, Path]) -> dict[str, dict[str, QuestionTraces]]:
    """The chains that ``--traces`` names."""
    found: dict[str, dict[str, QuestionTraces]] = {}
    for name, path in traces.items():
        chains = own_chains(teachers.fingerprints(name).weights, path)
        if chains is None:
            raise ValueError(
                f"--traces: a model with other weights than the teacher {name} wrote the chains in "
                f"{path}. Name its own, or sample them with `kvdistill sample`."
            )
        found[name] = chains
    return found


def lines_of(table: CompetenceTable, drawn: Mapping[str, Mapping[str, QuestionTraces]]) -> list[str]:
    """Means of a table as text.

    Args:
        table: the table.
        drawn: the sampled chains by teacher.

    Returns:
        One line per teacher.
    """
    lines = []
    for name in table.teachers:
        rows = [each[name] for each in table.figures.values() if name in each]
        parts = []
        for label, values in (
            ("chain", [row.cot_nats for row in rows]),
            ("answer", [row.answer_nats for row in rows]),
        ):
            known = [value for value in values if value is not None]
            if known:
                parts.append(f"{label} {fmean(known):.3f} nats a character")
        rights = [row.right for row in rows if row.right is not None]
        if rights:
            parts.append(f"{100 * fmean(rights):.1f} % of its own chains right")
        else:
            parts.append("no chains of its own: the mean of the others counts")
        lines.append(f"{name}: {', '.join(parts)} ({len(rows)} questions)")
    return lines
