"""Figure of a grid: test accuracy against the values of one option, a line for each kind of arm."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from kvdistill.reporting.drawing import Label, curve_canvas, label_ends
from kvdistill.reporting.palette import method
from kvdistill.reporting.studies.arms import ArmRow


def grid_curves(points: Sequence[ArmRow], label: str, narrow: bool) -> Figure:
    """Draw the lines of a grid: mean accuracy over seeds with its 95 % interval.

    Args:
        points: the arms of the grid that have run.
        label: name of the horizontal axis.
        narrow: whether it is for a phone.
    """
    lines = list(dict.fromkeys(point.plan.line or "" for point in points))
    figure, axes = curve_canvas(3.2 + 0.22 * len(lines), narrow)
    axes.set_ylim(0, 103)
    labels = []
    for place, line in enumerate(lines):
        own = sorted(
            (point for point in points if point.plan.line == line), key=lambda point: point.plan.value or 0.0
        )
        values = [point.plan.value or 0.0 for point in own]
        means = [100 * point.measures["accuracy"].mean for point in own]
        look = method(line)
        beside = (place - (len(lines) - 1) / 2) * 0.004 * (max(values) - min(values))  # bars stay apart
        axes.errorbar(
            np.array(values) + beside,
            means,
            yerr=_ends(own),
            color=look.tint.light,
            marker=look.marker,
            capsize=3,
            linewidth=2,
        )
        labels.append(Label(values[-1], means[-1], line, look.tint.light, look.marker))
    ticks = sorted({point.plan.value or 0.0 for point in points})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel(label)
    axes.set_ylabel("test accuracy (%)")
    label_ends(axes, labels, narrow)
    return figure


def _ends(points: Sequence[ArmRow]) -> np.ndarray:
    """Lengths of the bars below and above each mean, in percent, clipped to 0 to 100 %."""
    lengths = []
    for point in points:
        estimate = point.measures["accuracy"]
        low, high = estimate.mean, estimate.mean
        if estimate.low is not None and estimate.high is not None:
            low, high = max(0.0, estimate.low), min(1.0, estimate.high)
        lengths.append((100 * (estimate.mean - low), 100 * (high - estimate.mean)))
    return np.array(lengths).clip(min=0).T
