"""The report's results table: accuracy, interval and cost of each mode, with its figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kvdistill.console.wording import number
from kvdistill.records.intervals import Interval
from kvdistill.records.schema import DemoSummary, DepthCount, EvaluationRecord
from kvdistill.reporting.blocks import Block, Missing, Table, Words, percent, percent_range
from kvdistill.reporting.drawing import draw
from kvdistill.reporting.figures import Measured, accuracy_bars, passes_scatter
from kvdistill.reporting.nats import EXPLAINED, nats, nats_range
from kvdistill.reporting.page import Section
from kvdistill.reporting.palette import METHODS, method

_HEADER = (
    *("how it answers", "accuracy", "95 % interval", "questions", "passes", "tokens"),
    *("ms, batch\N{NO-BREAK SPACE}1", "ms, batch\N{NO-BREAK SPACE}32"),
)
_DEMO = {
    "latent_kv": ("passes_latent", "ms_latent"),
    "latent_e1": ("passes_latent", None),
    "cot": ("passes_cot", "ms_cot"),
    "cot_terse": ("passes_cot_terse", None),
    "direct": (None, None),
}
"""Evaluation of a demo -> the fields of its summary that hold passes and milliseconds."""
_AGREEMENT = 5e-4
"""Accuracies of two files that differ by less agree after rounding to a tenth of a percent."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the results table; None where a value was not measured."""

    measured: Measured
    num: int | None = None
    """Number of questions."""
    tokens: float | None = None
    """Tokens per question."""
    ms_batch1: float | None = None
    """Milliseconds per question, asked one by one."""
    ms_batch32: float | None = None
    """Milliseconds per question, in batches of 32."""
    nats: float | None = None
    """Log-probability of the right answer, mean over questions."""
    nats_interval: Interval | None = None
    """Its 95 % interval."""
    by_depth: dict[int, DepthCount] | None = None
    """Questions and right answers by depth."""

    @property
    def cells(self) -> list[str]:
        """The line as text, in the order of the header."""
        shown, interval = self.measured, "–"
        if shown.interval is not None:
            interval = percent_range(shown.interval.low, shown.interval.high)
        times = (number(ms, digits=2) for ms in (self.ms_batch1, self.ms_batch32))
        return [
            shown.label,
            percent(shown.accuracy),
            interval,
            number(self.num),
            number(shown.passes),
            number(self.tokens),
            *times,
        ]


def chance_in(records: Iterable[EvaluationRecord]) -> float | None:
    """Chance accuracy: the share of the most frequent answer (the highest over data sets), if recorded."""
    return max((record.chance for record in records if record.chance is not None), default=None)


def evaluated(records: Mapping[str, EvaluationRecord]) -> list[Row]:
    """One row per evaluation of a run.

    Args:
        records: evaluation by file name; the name is added to a label that would occur twice.
    """
    labels = [f"{method(record.mode).label} on {record.data_set}" for record in records.values()]
    rows = []
    for label, (name, record) in zip(labels, records.items(), strict=True):
        full = f"{label} ({name})" if labels.count(label) > 1 else label
        rows.append(row_of(record, full, record.mode))
    return rows


def demo_section(
    folder: Path, summary: DemoSummary | None, records: Mapping[str, EvaluationRecord]
) -> Section:
    """The demo's results section: table and figures, missing files, and files that disagree.

    Args:
        folder: the demo's folder; figures are written to ``figures/`` in it.
        summary: the demo's summary, if it has finished.
        records: evaluation by the name in its file, such as ``cot``.
    """
    blocks: list[Block] = []
    if rows := demo_rows(summary, records):
        blocks = table_of_answers(folder, rows, chance_in(records.values()))
    missing = []
    if summary is None:
        missing.append("summary.json")
    missing += [f"evaluation_{name}.json" for name in _DEMO if name not in records]
    if missing:
        blocks.append(Missing(", ".join(missing), "kvdistill demo"))
    for name, record in records.items():
        if name not in _DEMO:
            continue
        stated = _stated(summary, name)
        if stated is not None and abs(stated - record.accuracy) > _AGREEMENT:
            both = (
                f"summary.json has {percent(stated)} for {name}, evaluation_{name}.json "
                f"{percent(record.accuracy)}"
            )
            blocks.append(Words(f"{both}: run `kvdistill demo` again."))
    return Section("Answers", blocks)


def table_of_answers(folder: Path, rows: Sequence[Row], chance: float | None) -> list[Block]:
    """The results table with its explanation and figures.

    Args:
        folder: figures are written to ``figures/`` in it.
        rows: the lines of the table.
        chance: chance accuracy (0 to 1), shown as a row and a line; None where it was not recorded.
    """
    measured = [row.measured for row in rows]
    lines = [row.cells for row in rows]
    told = (
        "The interval (Wilson) is the luck of the questions, not of training: that needs several seeds. "
        "Passes are sequential forward "
        "passes, each waiting for the one before; passes, tokens and milliseconds are means over questions. "
        "– means not measured."
    )
    if chance is not None:
        lines.append(["chance", percent(chance), *["–"] * (len(_HEADER) - 2)])
        told += " Chance is what always giving the most frequent answer of the test set would get right."
    bars = draw(
        partial(accuracy_bars, measured, chance),
        folder / "figures" / "accuracy.svg",
        "Accuracy of each way to answer, with its 95 % interval.",
    )
    blocks: list[Block] = [Table(_HEADER, lines), Words(told), bars]
    if any(row.passes is not None for row in measured):
        caption = "Accuracy against sequential forward passes a question: up and to the left is better."
        blocks.append(
            draw(partial(passes_scatter, measured, chance), folder / "figures" / "passes.svg", caption)
        )
    return [*blocks, *_log_probabilities(rows)]


def _log_probabilities(rows: Sequence[Row]) -> list[Block]:
    """Log-probability of the right answer by way to answer; nothing where no record has it."""
    lines = []
    for row in rows:
        if row.nats is None:
            continue
        interval = "–"
        if row.nats_interval is not None:
            interval = nats_range(row.nats_interval.low, row.nats_interval.high)
        lines.append([row.measured.label, nats(row.nats), interval])
    if not lines:
        return []
    return [Table(("how it answers", "nats", "95 % interval"), lines), Words(EXPLAINED)]


def demo_key(name: str, summary: DemoSummary | None) -> str:
    """The method key of a demo's evaluation file; ``latent_kv`` is the compressor chosen on validation."""
    if name == "latent_kv" and summary is not None:
        return summary.kv_method
    return name.removeprefix("latent_")


def demo_rows(summary: DemoSummary | None, records: Mapping[str, EvaluationRecord]) -> list[Row]:
    """Rows of a demo, from its evaluations or else from its summary: the chosen latents first.

    Args:
        summary: the demo's summary, if it has finished.
        records: evaluation by the name in its file, such as ``cot``.
    """
    rows = []
    for name in sorted({*_DEMO, *records}, key=_place):
        key = demo_key(name, summary)
        label = method(key).label
        if key not in METHODS and name in records:
            label = f"{name} on {records[name].data_set}"
        if name == "latent_kv":
            label += " (chosen)"
        if name in records:
            rows.append(row_of(records[name], label, key))
            continue
        accuracy = _stated(summary, name)
        if accuracy is not None:
            passes, ms = (_stated(summary, field) for field in _DEMO[name])
            measured = Measured(label=label, accuracy=accuracy, passes=passes, key=key)
            rows.append(Row(measured=measured, ms_batch1=ms))
    return rows


def _stated(summary: DemoSummary | None, field: str | None) -> float | None:
    """A number of a demo's summary; None without a summary, or where no field holds it."""
    if summary is None or field is None:
        return None
    return getattr(summary, field)


def _place(name: str) -> tuple[int, str]:
    """Sort key: the chosen latents, the other compressors, the baselines, then other evaluations."""
    if name.startswith("latent_") and name not in _DEMO:
        return (1, name)
    if name not in _DEMO:
        return (2 * len(_DEMO), name)
    return (2 * list(_DEMO).index(name), name)


def row_of(record: EvaluationRecord, label: str, key: str) -> Row:
    """One line of the results table.

    Args:
        record: an evaluation.
        label: what it is called in the table.
        key: key of its color in ``palette.METHODS``.
    """
    interval, nats_interval = Interval(low=record.low, high=record.high), None
    if record.nats_low is not None and record.nats_high is not None:
        nats_interval = Interval(low=record.nats_low, high=record.nats_high)
    measured = Measured(
        label=label,
        accuracy=record.accuracy,
        interval=interval,
        passes=record.sequential_passes_mean,
        key=key,
    )
    return Row(
        measured=measured,
        num=record.num,
        tokens=record.tokens_mean,
        ms_batch1=record.ms_batch1,
        ms_batch32=record.ms_batch32,
        nats=record.nats,
        nats_interval=nats_interval,
        by_depth=record.by_depth,
    )
