"""The table of answers: each way to answer with its accuracy, interval and cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvdistill.record import DemoSummary, EvaluationRecord, Interval
from kvdistill.reporting.figures import Measured, accuracy_bars, passes_scatter
from kvdistill.reporting.page import Block, Missing, Picture, Section, Table, Words, number, percent

_HEADER = ("how it answers", "accuracy", "95 % interval", "questions", "passes", "tokens", "ms, batch 1", "ms, batch 32")
_DEMO = {
    "cot": ("explicit CoT, verbose", 2, "passes_cot", "ms_cot"),
    "cot_terse": ("explicit CoT, terse", 3, "passes_cot_terse", None),
    "direct": ("direct answer", 4, None, None),
    "latent_e1": ("latent, no KV term (E1)", 0, "passes_latent", None),
    "latent_kv": ("latent, KV term", 1, "passes_latent", "ms_latent"),
}
"""Label, colour (E1 and KV as in the training curves), and where the summary keeps passes and milliseconds, of each evaluation."""
_AGREEMENT = 5e-4
"""Accuracies of two files that differ by less are the same after rounding to a tenth of a percent."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; None where nobody measured."""

    measured: Measured
    num: int | None = None
    tokens: float | None = None
    ms_batch1: float | None = None
    ms_batch32: float | None = None

    @property
    def cells(self) -> list[str]:
        """The line as text, in the order of the header."""
        shown = self.measured
        interval = "–" if shown.interval is None else f"{100 * shown.interval.low:.1f}–{percent(shown.interval.high)}"
        numbers = (self.num, shown.passes, self.tokens, self.ms_batch1, self.ms_batch32)
        return [shown.label, percent(shown.accuracy), interval, *map(number, numbers)]


def evaluated(records: Mapping[str, EvaluationRecord]) -> list[Row]:
    """A line for each record by its file's name, which stands in the label where mode and data set are the same."""
    labels = [f"{record.mode} on {record.data_set}" for record in records.values()]
    names = [f"{label} ({name})" if labels.count(label) > 1 else label for label, name in zip(labels, records, strict=True)]
    return [_row(record, name, colour) for colour, (name, record) in enumerate(zip(names, records.values(), strict=True))]


def demo_section(folder: Path, summary: DemoSummary | None, records: Mapping[str, EvaluationRecord]) -> Section:
    """How each mode of the demo answers, what is missing, and where two files disagree."""
    rows = _demo_rows(summary, records)
    blocks = table_of_answers(folder, rows) if rows else []
    missing = ([] if summary is not None else ["summary.json"]) + [f"evaluation_{name}.json" for name in _DEMO if name not in records]
    if missing:
        blocks.append(Missing(", ".join(missing), "kvdistill demo"))
    for name, record in records.items():
        stated = getattr(summary, name) if summary is not None and name in _DEMO else None
        if stated is not None and abs(stated - record.accuracy) > _AGREEMENT:
            both = f"summary.json says {percent(stated)} for {name}, evaluation_{name}.json {percent(record.accuracy)}"
            blocks.append(Words(f"{both}: run `kvdistill demo` again."))
    return Section("Answers", blocks)


def table_of_answers(folder: Path, rows: Sequence[Row]) -> list[Block]:
    """The table with its figures, which go to ``figures/`` in ``folder``."""
    measured = [row.measured for row in rows]
    bars, scatter = folder / "figures" / "accuracy.png", folder / "figures" / "passes.png"
    accuracy_bars(measured, bars)
    blocks: list[Block] = [
        Table(_HEADER, [row.cells for row in rows]),
        Words(
            "The interval (Wilson) is the luck of the questions, not of training: that needs several seeds. Passes are sequential forward "
            "passes, each waiting for the one before; passes, tokens and milliseconds are means over questions. – means not measured."
        ),
        Picture(bars, "Accuracy of each way to answer, with its 95 % interval."),
    ]
    if any(row.passes is not None for row in measured):
        passes_scatter(measured, scatter)
        blocks.append(Picture(scatter, "Accuracy against sequential forward passes a question: up and to the left is better."))
    return blocks


def _demo_rows(summary: DemoSummary | None, records: Mapping[str, EvaluationRecord]) -> list[Row]:
    """The fixed rows of a demo, from its evaluations or else from its summary, then every other evaluation."""
    rows = []
    for name, (label, colour, passes, ms) in _DEMO.items():
        if summary is not None and name == "latent_kv":
            label = f"{label} ({summary.kv_method})"
        accuracy = None if summary is None else getattr(summary, name)
        if name in records:
            rows.append(_row(records[name], label, colour))
        elif accuracy is not None:
            passes, ms = (None if key is None else getattr(summary, key) for key in (passes, ms))
            rows.append(Row(measured=Measured(label=label, accuracy=accuracy, passes=passes, colour=colour), ms_batch1=ms))
    others = [(name, record) for name, record in records.items() if name not in _DEMO]
    return rows + [_row(record, f"{name} on {record.data_set}", len(_DEMO) + i) for i, (name, record) in enumerate(others)]


def _row(record: EvaluationRecord, label: str, colour: int) -> Row:
    interval = Interval(low=record.low, high=record.high)
    measured = Measured(label=label, accuracy=record.accuracy, interval=interval, passes=record.sequential_passes_mean, colour=colour)
    return Row(measured=measured, num=record.num, tokens=record.tokens_mean, ms_batch1=record.ms_batch1, ms_batch32=record.ms_batch32)
