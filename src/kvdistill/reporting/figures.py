"""Figures of a report, drawn without a display. The suffix of the path (.png, .svg, .pdf) chooses the format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kvdistill.record import Curve, Interval

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#B87A00", "#332288", "#117733", "#882255")
"""Told apart by colour-blind eyes and dark enough on white. Source: Okabe and Ito 2008, Tol 2021, both slightly darkened."""
_MARKERS = "osD^vPX*"
GREY = "#595959"
SIZE = 11


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One mode of answering, measured."""

    label: str
    accuracy: float
    interval: Interval | None = None
    passes: float | None = None
    """Sequential forward passes a question."""
    colour: int = 0
    """Index into ``COLOURS``."""


@dataclass(frozen=True)
class Label:
    """A name to write beside what it names, in data coordinates."""

    x: float
    y: float
    text: str
    colour: str


def accuracy_curves(curves: Sequence[Curve], path: Path, cot: float | None = None, threshold: float | None = None) -> None:
    """Validation accuracy over training steps, one line a method, its name at its end.

    ``cot`` (accuracy of explicit chain of thought) and ``threshold`` are drawn as level lines. Curves take ``COLOURS`` in order.
    """
    figure, axes = canvas(7.2, 4.3)
    labels = []
    for index, curve in enumerate(curves):
        percent = [100 * accuracy for accuracy in curve.accuracy]
        marks = {"marker": _MARKERS[index % 8], "markersize": 4, "markevery": max(1, len(percent) // 12)}
        axes.plot(curve.steps, percent, color=colour(index), linewidth=2, **marks)
        labels.append(Label(float(curve.steps[-1]), percent[-1], curve.method, colour(index)))
    end = max(curve.steps[-1] for curve in curves)
    for level, name, style in ((cot, "explicit CoT", "--"), (threshold, "threshold", ":")):
        if level is not None:
            axes.axhline(100 * level, color=GREY, linestyle=style, linewidth=1.2, zorder=1)
            labels.append(Label(float(end), 100 * level, f"{name} {100 * level:.0f} %", GREY))
    axes.set_xlim(left=0, right=max(end, 1))
    axes.set_ylim(0, 102)
    axes.set_xlabel("training steps")
    axes.set_ylabel("validation accuracy (%)")
    label_ends(axes, labels)
    save(figure, path)


def loss_curves(terms: Mapping[str, Mapping[str, Mapping[int, float]]], path: Path) -> None:
    """One panel a loss term: value over training steps, one line a run. ``terms[term][run][step]`` is the value."""
    columns = min(2, len(terms))
    rows = -(-len(terms) // columns)
    figure = Figure(figsize=(3.7 * columns, 0.4 + 2.3 * rows), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    runs = list(dict.fromkeys(run for by_run in terms.values() for run in by_run))
    for place, (term, by_run) in enumerate(terms.items(), start=1):
        axes = _style(figure.add_subplot(rows, columns, place))
        for run, values in by_run.items():
            axes.plot(list(values), list(values.values()), color=colour(runs.index(run)), linewidth=1.5)
        axes.set_title(term, loc="left", fontsize=SIZE, fontweight="bold")
        axes.set_xlabel("training steps")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlim(left=0)
        if len(runs) > 1:
            finite = {run: [point for point in values.items() if isfinite(point[1])] for run, values in by_run.items()}
            ends = [(run, *points[-1]) for run, points in finite.items() if points]
            label_ends(axes, [Label(float(step), value, run, colour(runs.index(run))) for run, step, value in ends])
    save(figure, path)


def accuracy_bars(rows: Sequence[Measured], path: Path) -> None:
    """Accuracy of each mode as a bar with its interval, first row on top."""
    figure, axes = canvas(7.2, 0.9 + 0.5 * len(rows))
    for place, row in enumerate(rows):
        accuracy = 100 * row.accuracy
        axes.barh(place, accuracy, height=0.62, color=colour(row.colour), alpha=0.85)
        right = accuracy
        if row.interval is not None:
            low, right = 100 * row.interval.low, 100 * row.interval.high
            axes.errorbar(accuracy, place, xerr=[[accuracy - low], [right - accuracy]], color="black", capsize=4, linewidth=1.4)
        axes.text(max(right, accuracy) + 1.5, place, f"{accuracy:.1f} %", va="center", fontsize=SIZE)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 114)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("accuracy (%), line: 95 % interval" if any(row.interval for row in rows) else "accuracy (%)")
    save(figure, path)


def passes_scatter(rows: Sequence[Measured], path: Path) -> None:
    """Accuracy against sequential forward passes a question, one point a mode; up and to the left is better."""
    figure, axes = canvas(7.2, 4.3)
    labels = []
    for row in rows:
        if row.passes is None:
            continue
        accuracy = 100 * row.accuracy
        if row.interval is not None:
            axes.vlines(row.passes, 100 * row.interval.low, 100 * row.interval.high, color=colour(row.colour), linewidth=1.5)
        axes.plot(row.passes, accuracy, color=colour(row.colour), marker=_MARKERS[row.colour % 8], markersize=8)
        labels.append(Label(row.passes, accuracy, row.label, colour(row.colour)))
    axes.set_xlim(0, 1.1 * max(label.x for label in labels))
    axes.set_ylim(0, 104)
    axes.set_xlabel("sequential forward passes a question")
    axes.set_ylabel("accuracy (%)")
    _label_points(axes, labels)
    save(figure, path)


def colour(index: int) -> str:
    """The colour of the thing shown at this place."""
    return COLOURS[index % len(COLOURS)]


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this many inches with one styled pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, _style(figure.add_subplot())


def _style(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SIZE)
    axes.xaxis.label.set_fontsize(SIZE)
    axes.yaxis.label.set_fontsize(SIZE)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")))
    return axes


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, lowest first, moved up and down so that neighbours stand ``gap`` apart and their mean stays."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _reach(groups[-2], gap, 1) + gap > _reach(groups[-1], gap, -1):
            last = groups.pop()
            groups[-1] += last
    return [_reach(group, gap, -1) + gap * place for group in groups for place in range(len(group))]


def _reach(group: Sequence[float], gap: float, side: int) -> float:
    """Where a group's lowest (side -1) or highest (1) label stands, its members a gap apart about their mean."""
    return sum(group) / len(group) + side * gap * (len(group) - 1) / 2


def _points_high(axes: Axes) -> float:
    """Height of the axes in points, the unit of font sizes."""
    return axes.get_window_extent().height * 72 / axes.figure.dpi


def label_ends(axes: Axes, labels: Sequence[Label]) -> None:
    """Write the names in the margin right of the axes, apart from each other."""
    low, high = axes.get_ylim()
    ordered = sorted(labels, key=lambda label: label.y)
    places = _spread([(label.y - low) / (high - low) for label in ordered], 1.25 * SIZE / _points_high(axes))
    for place, label in zip(places, ordered, strict=True):
        words = axes.annotate(label.text, (1, place), (6, 0), xycoords="axes fraction", textcoords="offset points", va="center")
        words.set(color=label.colour, fontsize=SIZE)


def _label_points(axes: Axes, labels: Sequence[Label]) -> None:
    """Write the names beside the points, towards the middle and apart from each other, with a thin line to what they name."""
    low, high = axes.get_ylim()
    middle = sum(axes.get_xlim()) / 2
    ordered = sorted(labels, key=lambda label: label.y)
    places = _spread([label.y for label in ordered], (high - low) * 1.35 * SIZE / _points_high(axes))
    for place, label in zip(places, ordered, strict=True):
        left = label.x < middle
        aside = label.x + (1 if left else -1) * 0.05 * middle
        axes.plot([label.x, aside], [label.y, place], color=label.colour, linewidth=0.8)
        axes.text(aside, place, f" {label.text} ", color=label.colour, fontsize=SIZE, va="center", ha="left" if left else "right")


def save(figure: Figure, path: Path) -> None:
    """Write the figure; parents are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160, facecolor="white")
