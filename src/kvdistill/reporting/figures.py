"""The figures of a run's or demo's report: curves, losses, accuracies, accuracy against passes.

Each function takes records and ``narrow`` (True for a phone), as ``drawing.draw`` calls it. Accuracies are
shares from 0 to 1 and drawn in percent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from kvdistill.records.intervals import Interval
from kvdistill.records.schema import Curve
from kvdistill.reporting.drawing import (
    BEHIND,
    NARROW,
    SIZE,
    WIDE,
    Label,
    Line,
    canvas,
    count_on,
    curve_canvas,
    label_ends,
    label_points,
    legend,
    level,
    name_rows,
    scale_training_axes,
    shortened,
    style,
)
from kvdistill.reporting.palette import INK, METHODS, MUTED, Method, method


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
        return self._method.tint.light

    @property
    def marker(self) -> str:
        """Its marker in matplotlib's notation."""
        return self._method.marker

    @property
    def _method(self) -> Method:
        if self.key is None:
            return Method(self.label, MUTED, "o")
        return method(self.key)


@dataclass(frozen=True, kw_only=True)
class BarLayout:
    """Measures of a bar chart, in rows of the chart unless noted."""

    row: float
    """Inches a row takes."""
    bar: float
    """Thickness of a bar."""
    top: float
    """Upper end of the axis."""
    right: int
    """Right end of the axis, in percent: numbers are written beside the bars."""
    joint: str
    """Separator of the notes below the axis."""


_BESIDE = BarLayout(row=0.46, bar=0.62, top=-0.5, right=114, joint=", ")
"""On a screen, where names are beside the bars."""
_ABOVE = BarLayout(row=0.62, bar=0.42, top=-0.8, right=124, joint=",\n")
"""On a phone, where names are above the bars."""


def accuracy_curves(curves: Mapping[str, Curve], levels: Mapping[str, float], narrow: bool) -> Figure:
    """Validation accuracy over training steps, one labeled line per method.

    Args:
        curves: curve by method.
        levels: shares that are drawn as horizontal lines, by name.
        narrow: whether it is for a phone.
    """
    figure, axes = curve_canvas(4.6 + 0.2 * len(curves), narrow)
    end = max(curve.steps[-1] for curve in curves.values())
    scale_training_axes(axes, max(end, 1), narrow)
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
    label_ends(axes, labels, narrow)
    return figure


def loss_curves(terms: Mapping[str, Mapping[str, Mapping[int, float]]], narrow: bool) -> Figure:
    """Loss terms over training steps, one panel per term and one line per run.

    Args:
        terms: ``terms[term][run][step]`` is the value.
        narrow: whether it is for a phone: one column of panels, not two.
    """
    columns, width = min(2, len(terms)), min(2, len(terms)) * WIDE / 2
    if narrow:
        columns, width = 1, NARROW
    rows = -(-len(terms) // columns)
    height = 0.4 + 2.1 * rows
    runs = list(dict.fromkeys(run for by_run in terms.values() for run in by_run))
    if len(runs) > 1:
        height += 0.24 * len(runs)  # the legend
    engine = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(width, height), layout=engine)
    for place, (term, by_run) in enumerate(terms.items(), start=1):
        axes = style(figure.add_subplot(rows, columns, place))
        for run, values in by_run.items():
            (line,) = axes.plot(
                list(values), list(values.values()), color=_run_tint(run), linewidth=1.5, clip_on=False
            )
            if len(values) == 1:  # a single value makes no line
                line.set_marker("o")
        axes.set_title(shortened(term, 44), loc="left", fontsize=SIZE, fontweight="bold")
        axes.set_xlabel("training steps")
        count_on(axes, 4)
        axes.set_xlim(left=0)
    if len(runs) > 1:
        names = [Label(0.0, 0.0, method(run).label, _run_tint(run)) for run in runs]
        legend(figure, names, columns=1 if narrow else 2)
    return figure


def accuracy_bars(rows: Sequence[Measured], chance: float | None, narrow: bool) -> Figure:
    """Accuracy of each row as a bar with its interval, first row on top.

    Args:
        rows: what was measured.
        chance: share that the most frequent answer would get right, drawn as a line; None draws none.
        narrow: whether it is for a phone: names are above the bars, not beside them.
    """
    layout = _ABOVE if narrow else _BESIDE
    figure, axes = canvas(1.0 + layout.row * len(rows), narrow)
    for place, row in enumerate(rows):
        accuracy = 100 * row.accuracy
        axes.barh(place, accuracy, height=layout.bar, color=row.tint, zorder=2)
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
    name_rows(axes, [shortened(row.label) for row in rows], narrow)
    axes.set_ylim(len(rows) - 0.5, layout.top)
    axes.set_xlim(0, layout.right)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(visible=False, axis="y")
    told = ["accuracy (%)"]
    if any(row.interval for row in rows):
        told.append("line: 95 % interval")
    if chance is not None:
        axes.axvline(100 * chance, color=MUTED.light, linestyle="--", linewidth=1.2)
        told.append(f"dashed: chance, {100 * chance:.1f} %")
    axes.set_xlabel(layout.joint.join(told))
    return figure


def passes_scatter(rows: Sequence[Measured], chance: float | None, narrow: bool) -> Figure:
    """Accuracy against sequential forward passes per question; up and to the left is better.

    Args:
        rows: what was measured; rows without passes are left out.
        chance: share that the most frequent answer would get right, drawn as a line; None draws none.
        narrow: whether it is for a phone.
    """
    shown = [row for row in rows if row.passes is not None]
    figure, axes = curve_canvas(3.4 + 0.22 * len(shown), narrow)
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
    if key in METHODS:
        return method(key).label
    return curve.method


def _run_tint(run: str) -> str:
    if run == "run":  # logged in metrics.jsonl itself
        return method("latent").tint.light
    return method(run).tint.light
