"""``kvdistill align inspect``: what will be done to each teacher, as a table, a record and a report page."""

from collections.abc import Callable
from pathlib import Path

from kvdistill.commands.align.prepare import Aligned, align
from kvdistill.config import RunConfig
from kvdistill.console.extras import how_to_install, missing_packages
from kvdistill.records.calibration import CALIBRATION
from kvdistill.reporting.align_report import TokenTable, align_page
from kvdistill.reporting.blocks import Block
from kvdistill.target.lower import LowerBridge
from kvdistill.teacher.base import Teacher
from kvdistill.text import Encoded, Segment


def inspect(config: RunConfig, folder: Path, say: Callable[[str], None]) -> Path:
    """Align the teachers as a run does, print the report, and write record, figures and page.

    Args:
        config: the run's configuration.
        folder: where ``calibration.json``, ``figures/``, ``report.html`` and ``report.md`` are written.
        say: prints a text.

    Returns:
        The folder.

    Raises:
        ValueError: as ``align`` does.
    """
    done = align(config, folder, say)
    done.record.write(folder / CALIBRATION)
    section = config.training
    step_samples = section.batch_size * section.gradient_accumulation_steps
    say(align_page(done.record, step_samples, {}).plain())
    if missing_packages("reporting"):
        say(f"{folder / CALIBRATION} is written; no figures and no page: {how_to_install('reporting')}")
        return folder
    figures = figures_of(done, folder / "figures")
    page = align_page(done.record, step_samples, figures).write(folder)
    say(f"Everything is in {folder}; open {page}")
    return folder


def figures_of(done: Aligned, folder: Path) -> dict[str, list[Block]]:
    """Draw the figures of each teacher.

    Args:
        done: the aligned step.
        folder: where they are written.

    Returns:
        By teacher: the token alignment of the first sample where the tokenizers differ, the layer map, the
        head maps of keys and values.
    """
    from kvdistill.reporting.align_figures import draw_maps, draw_tokens  # loads matplotlib

    assert isinstance(done.step.bridge, LowerBridge)
    sample = first_sample(done.data)
    found: dict[str, list[Block]] = {}
    for teacher in done.step.teachers:
        found[teacher.name] = []
        if sample is not None and teacher.reader is not None:
            tokens = token_table(done, teacher, sample)
            found[teacher.name].append(draw_tokens(tokens, teacher.name, folder))
        adapter = done.step.bridge.aligner(teacher.name).adapter
        found[teacher.name] += draw_maps(adapter, teacher.name, folder)
    return found


def token_table(done: Aligned, teacher: Teacher, sample: Encoded) -> TokenTable:
    """The alignment of a teacher's tokens with the student's in one sample.

    Args:
        done: the aligned step.
        teacher: a teacher with a reader of its own.
        sample: a sample with a chain of thought.

    Returns:
        The tokens of both, and the share of each teacher token in each student token.
    """
    assert teacher.reader is not None
    batch = done.step.collate([sample], same_text=True)
    (reading,) = teacher.reader.of_student_text().read([sample.example])
    ours, theirs = texts_of(sample.teacher_mode.cot), texts_of(reading.cot)
    weights = [[0.0] * len(theirs) for _ in ours]
    alignment = batch.alignments.get(teacher.name)
    if alignment is None:
        # Equal tokens.
        for place in range(len(ours)):
            weights[place][place] = 1.0
        return TokenTable(ours, theirs, weights)
    for row, (columns, shares) in enumerate(zip(alignment.index[0], alignment.average[0], strict=True)):
        for column, share in zip(columns.tolist(), shares.tolist(), strict=True):
            # Unused entries point at column 0 with weight 0.
            weights[row][column] += share
    return TokenTable(ours, theirs, weights)


def texts_of(segment: Segment) -> list[str]:
    """The characters of each token.

    Args:
        segment: a tokenized text.

    Returns:
        One text per token; spaces and line breaks are made visible.
    """
    texts = [segment.text[start:stop] for start, stop in segment.spans]
    return [text.replace(" ", "·").replace("\n", "↵") for text in texts]


def first_sample(data: object) -> Encoded | None:
    """The first training sample with a chain of thought; None for a stream, which is not read again."""
    if not isinstance(data, tuple):
        return None
    return next((sample for sample in data if sample.teacher_mode.cot.ids), None)
