"""The figures of a run's or demo's report: curves, losses, accuracies, accuracy against passes.

Each function takes records and ``narrow`` (True for a phone), as ``drawing.draw`` calls it. Accuracies are
shares from 0 to 1 and drawn in percent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from kvdistill.records.schema import Curve, Interval
from kvdistill.reporting.drawing import (
    BEHIND,
    NARROW,
    SIZE,
    WIDE,
    Label,
    Line,
    canvas,
    count_on,
    label_ends,
    label_points,
    legend,
    level,
    shortened,
    style,
)
from kvdistill.reporting.palette import INK, METHODS, MUTED, method


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The measured accuracy and cost of one way to answer."""

    label: str
    accuracy: float
    """Share of right answers, 0 to 1."""
    interval: Interval | None = None
    """Its 95 % interval."""
    passes: float | None = None
    """Sequential forward passes per question."""
    key: str | None = None
    """Key of ``palette.METHODS``; None is drawn in gray."""

    @property
    def tint(self) -> str:
        """Its color on a light page."""
        return MUTED.light if self.key is None else method(self.key).tint.light

    @property
    def marker(self) -> str:
        """Its marker in matplotlib's notation."""
        return "o" if self.key is None else method(self.key).marker


def accuracy_curves(curves: Mapping[str, Curve], levels: Mapping[str, float], narrow: bool) -> Figure:
    """Validation accuracy over training steps, one labeled line per method.

    Args:
        curves: curve by method.
        levels: shares that are drawn as horizontal lines, by name.
        narrow: whether it is for a phone.
    """
    figure, axes = canvas(4.6 + 0.2 * len(curves) if narrow else 4.3, narrow)
    end = max(curve.steps[-1] for curve in curves.values())
    axes.set_xlim(left=0, right=max(end, 1))
    axes.set_ylim(0, 103)
    labels = []
    for key, curve in curves.items():
        percent = [100 * accuracy for accuracy in curve.accuracy]
        known = method(key)
        tint = known.tint.light
        every = max(1, len(percent) // 12)
        axes.plot(
            curve.steps,
            percent,
            color=tint,
            linewidth=2,
            marker=known.marker,
            markersize=5,
            markevery=every,
            clip_on=False,
        )
        labels.append(Label(float(curve.steps[-1]), percent[-1], curve_name(key, curve), tint, known.marker))
    lines: tuple[Line, ...] = ("--", ":", "-.")
    labels += [
        level(axes, share, name, lines[place % len(lines)])
        for place, (name, share) in enumerate(levels.items())
    ]
    axes.set_xlabel("training steps")
    axes.set_ylabel("validation accuracy (%)")
    count_on(axes, 4 if narrow else 7)
    label_ends(axes, labels, narrow)
    return figure


def loss_curves(terms: Mapping[str, Mapping[str, Mapping[int, float]]], narrow: bool) -> Figure:
    """Loss terms over training steps, one panel per term and one line per run.

    Args:
        terms: ``terms[term][run][step]`` is the value.
        narrow: whether it is for a phone: one column of panels, not two.
    """
    columns = 1 if narrow else min(2, len(terms))
    rows = -(-len(terms) // columns)
    width = NARROW if narrow else WIDE if columns == 2 else WIDE / 2
    runs = list(dict.fromkeys(run for by_run in terms.values() for run in by_run))
    named = 0.24 * len(runs) if len(runs) > 1 else 0.0
    engine = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(width, 0.4 + 2.1 * rows + named), layout=engine)
    for place, (term, by_run) in enumerate(terms.items(), start=1):
        axes = style(figure.add_subplot(rows, columns, place))
        for run, values in by_run.items():
            alone = "o" if len(values) == 1 else ""  # a single value makes no line
            axes.plot(
                list(values),
                list(values.values()),
                color=_run_tint(run),
                linewidth=1.5,
                marker=alone,
                clip_on=False,
            )
        axes.set_title(shortened(term, 44), loc="left", fontsize=SIZE, fontweight="bold")
        axes.set_xlabel("training steps")
        count_on(axes, 4)
        axes.set_xlim(left=0)
    if len(runs) > 1:
        legend(
            figure, [Label(0.0, 0.0, method(run).label, _run_tint(run)) for run in runs], 1 if narrow else 2
        )
    return figure


def accuracy_bars(rows: Sequence[Measured], chance: float | None, narrow: bool) -> Figure:
    """Accuracy of each row as a bar with its interval, first row on top.

    Args:
        rows: what was measured.
        chance: share that the most frequent answer would get right, drawn as a line; None draws none.
        narrow: whether it is for a phone: names are above the bars, not beside them.
    """
    figure, axes = canvas(1.0 + (0.62 if narrow else 0.46) * len(rows), narrow)
    for place, row in enumerate(rows):
        accuracy = 100 * row.accuracy
        axes.barh(place, accuracy, height=0.42 if narrow else 0.62, color=row.tint, zorder=2)
        right = accuracy
        if row.interval is not None:
            low, right = 100 * row.interval.low, 100 * row.interval.high
            axes.errorbar(
                accuracy,
                place,
                xerr=[[accuracy - low], [right - accuracy]],
                color=INK.light,
                capsize=4,
                linewidth=1.4,
            )
        axes.text(
            max(right, accuracy) + 1.5, place, f"{accuracy:.1f} %", va="center", fontsize=SIZE, bbox=BEHIND
        )
        if narrow:
            axes.text(0.8, place - 0.25, shortened(row.label), va="bottom", fontsize=SIZE, bbox=BEHIND)
    axes.set_yticks(
        [] if narrow else range(len(rows)), [] if narrow else [shortened(row.label) for row in rows]
    )
    axes.set_ylim(len(rows) - 0.5, -0.8 if narrow else -0.5)
    axes.set_xlim(0, 124 if narrow else 114)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(visible=False, axis="y")
    if chance is not None:
        axes.axvline(100 * chance, color=MUTED.light, linestyle="--", linewidth=1.2)
    told = ["accuracy (%)"]
    told += ["line: 95 % interval"] if any(row.interval for row in rows) else []
    told += [f"dashed: chance, {100 * chance:.1f} %"] if chance is not None else []
    axes.set_xlabel((",\n" if narrow else ", ").join(told))
    return figure


def passes_scatter(rows: Sequence[Measured], chance: float | None, narrow: bool) -> Figure:
    """Accuracy against sequential forward passes per question; up and to the left is better.

    Args:
        rows: what was measured; rows without passes are left out.
        chance: share that the most frequent answer would get right, drawn as a line; None draws none.
        narrow: whether it is for a phone.
    """
    shown = [row for row in rows if row.passes is not None]
    figure, axes = canvas(3.4 + 0.22 * len(shown) if narrow else 4.3, narrow)
    axes.set_xlim(0, 1.1 * max(row.passes or 0 for row in shown))
    axes.set_ylim(0, 104)
    labels = []
    for row in shown:
        passes, accuracy = float(row.passes or 0), 100 * row.accuracy
        if row.interval is not None:
            axes.vlines(
                passes, 100 * row.interval.low, 100 * row.interval.high, color=row.tint, linewidth=1.5
            )
        axes.plot(passes, accuracy, color=row.tint, marker=row.marker, markersize=8, linestyle="none")
        labels.append(Label(passes, accuracy, row.label, row.tint, row.marker, "none"))
    count_on(axes)
    axes.set_xlabel("sequential forward passes a question")
    axes.set_ylabel("accuracy (%)")
    if chance is not None:
        level(axes, chance, "chance", "--")
        where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axes.annotate(
            f"chance {100 * chance:.1f} %",
            (1, 100 * chance),
            (0, 3),
            ha="right",
            color=MUTED.light,
            fontsize=SIZE,
            **where,
        )
    label_points(axes, labels, narrow)
    return figure


def curve_name(key: str, curve: Curve) -> str:
    """The label of a known method, else the name in the curve's file."""
    return method(key).label if key in METHODS else curve.method


def _run_tint(run: str) -> str:
    return method("latent").tint.light if run == "run" else method(run).tint.light
