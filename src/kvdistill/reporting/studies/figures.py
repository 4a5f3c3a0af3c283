"""Figures of a study: accuracy of each seed, validation curves, and a forest plot of the claims.

Accuracies are shares from 0 to 1 and drawn in percent; ``narrow`` is True for a phone.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvdistill.records.schema import Curve
from kvdistill.reporting.drawing import (
    BEHIND,
    SIZE,
    Label,
    canvas,
    count_on,
    curve_canvas,
    label_ends,
    name_rows,
    scale_training_axes,
    wrapped,
)
from kvdistill.reporting.palette import BAD, GOOD, INK, MUTED, Method, experiment
from kvdistill.reporting.studies.judged import Comparison, JudgedClaim
from kvdistill.reporting.studies.record import Estimate

_OUTCOMES = {"supported": GOOD.light, "not supported": BAD.light, "inconclusive": MUTED.light}
Look = Callable[[str], Method]
"""Label, color and marker of an experiment or arm by its name."""
_REACH = 6.0
"""Half the width of the forest plot, in deltas; longer intervals end in an arrow."""


def seed_dots(
    estimates: Mapping[str, Estimate], chance: float | None, narrow: bool, look: Look = experiment
) -> Figure:
    """Accuracy by experiment: one dot per seed, with the mean and its interval; first on top.

    Args:
        estimates: accuracy by experiment.
        chance: chance accuracy (0 to 1), drawn as a line; None draws none.
        narrow: whether it is for a phone.
        look: how an experiment is shown.
    """
    figure, axes = canvas(1.0 + 0.55 * len(estimates), narrow)
    for place, (name, estimate) in enumerate(estimates.items()):
        tint = look(name).tint.light
        seeds = [100 * value for value in estimate.by_seed.values()]
        axes.plot(
            seeds,
            np.full(len(seeds), place + 0.16),
            "o",
            color=tint,
            markersize=5,
            alpha=0.6,
            markeredgewidth=0,
        )
        mean = 100 * estimate.mean
        if estimate.low is not None and estimate.high is not None:
            # Student's interval may leave the scale, so it is clipped to 0 to 100 %.
            ends = [[mean - 100 * max(estimate.low, 0)], [100 * min(estimate.high, 1) - mean]]
            axes.errorbar(mean, place - 0.16, xerr=ends, color=tint, capsize=4, linewidth=2)
        axes.plot(mean, place - 0.16, "D", color=tint, markersize=6)
        axes.annotate(
            f"{mean:.1f} %",
            (1, place),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
        )
    # Two lines, since names of many arms begin alike.
    names = [wrapped(look(name).label, 18) for name in estimates]
    axes.set_yticks(range(len(estimates)), names)
    axes.set_ylim(len(estimates) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    told = "test accuracy (%)"
    if chance is not None:
        axes.axvline(100 * chance, color=MUTED.light, linestyle="--", linewidth=1.2, zorder=1)
        joint = ",\n" if narrow else ", "
        told += f"{joint}dashed: chance, {100 * chance:.1f} %"
    axes.set_xlabel(told)
    return figure


def mean_curves(curves: Mapping[str, Sequence[Curve]], narrow: bool, look: Look = experiment) -> Figure:
    """Validation accuracy over training steps: mean over seeds, with a band from lowest to highest seed.

    Args:
        curves: the seeds' curves by experiment.
        narrow: whether it is for a phone.
        look: how an experiment is shown.
    """
    figure, axes = curve_canvas(3.2 + 0.22 * len(curves), narrow)
    labels, last = [], 1
    for name, of_seeds in curves.items():
        # Only steps at which all seeds were evaluated.
        steps = sorted(set.intersection(*(set(curve.steps) for curve in of_seeds)))
        tables = [dict(zip(curve.steps, curve.accuracy, strict=True)) for curve in of_seeds]
        values = 100 * np.array([[table[step] for step in steps] for table in tables])
        if not steps:
            continue
        known = look(name)
        tint = known.tint.light
        axes.fill_between(steps, values.min(0), values.max(0), color=tint, alpha=0.15, linewidth=0)
        axes.plot(
            steps,
            values.mean(0),
            color=tint,
            linewidth=2,
            marker=known.marker,
            markersize=5,
            markevery=max(1, len(steps) // 12),
            clip_on=False,
        )
        labels.append(Label(float(steps[-1]), float(values.mean(0)[-1]), known.label, tint, known.marker))
        last = max(last, steps[-1])
    scale_training_axes(axes, last, narrow)
    label_ends(axes, labels, narrow)
    return figure


def forest(claims: Sequence[JudgedClaim], narrow: bool) -> Figure:
    """Forest plot: the interval of every comparison in units of its delta, grouped by claim.

    A tick on each line marks the bound that the interval has to clear.
    """
    rows = [(claim.title, [c for c in claim.comparisons if c.mean is not None]) for claim in claims]
    lines = [line for title, comparisons in rows if comparisons for line in (title, *comparisons)]
    row_height = 0.5 if narrow else 0.34
    figure, axes = canvas(1.0 + row_height * len(lines), narrow)
    for bound, color, style in ((-1, MUTED, ":"), (0, INK, "-"), (1, MUTED, ":")):
        axes.axvline(bound, color=color.light, linestyle=style, linewidth=1.2, zorder=1)
    for place, line in enumerate(lines):
        if isinstance(line, Comparison):
            _interval(axes, place, line, narrow)
        elif narrow:
            axes.text(-_REACH, place + 0.2, line, fontsize=SIZE, fontweight="bold", bbox=BEHIND)
    name_rows(axes, list(map(_name, lines)), narrow)
    for label, line in zip(axes.get_yticklabels(), lines, strict=False):
        label.set_fontsize(SIZE)
        if not isinstance(line, Comparison):
            label.set_fontweight("bold")
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlim(-_REACH, _REACH)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, pad=10)
    count_on(axes)
    axes.set_xlabel("difference in δ, with its 95 % interval")
    return figure


def _name(line: Comparison | str) -> str:
    """The name of a line of the forest plot: a comparison, or the title of a claim."""
    if isinstance(line, str):
        return line
    return line.name


def _interval(axes: Axes, place: int, comparison: Comparison, narrow: bool) -> None:
    """Draw one line of the forest plot; on a phone, with name and outcome above it."""
    assert comparison.mean is not None
    assert comparison.low is not None
    assert comparison.high is not None
    mean, low, high = (
        value / comparison.delta for value in (comparison.mean, comparison.low, comparison.high)
    )
    tint = _OUTCOMES[comparison.outcome]
    axes.plot(np.clip([low, high], -_REACH, _REACH), [place, place], color=tint, linewidth=2)
    marker = "D" if abs(mean) < _REACH else "none"
    axes.plot(np.clip(mean, -_REACH, _REACH), place, marker, color=tint, markersize=6)
    for end, beyond, arrow in ((-_REACH, low < -_REACH, "<"), (_REACH, high > _REACH, ">")):
        if beyond:
            axes.plot(end, place, arrow, color=tint, markersize=8, clip_on=False)
    bound = {"superiority": 0, "non_inferiority": -1, "negligible": 1}[comparison.kind]
    axes.plot(bound, place, "|", color=INK.light, markersize=11, markeredgewidth=2)
    if narrow:
        axes.text(-_REACH, place - 0.3, comparison.name, fontsize=SIZE - 1, bbox=BEHIND)
        axes.text(
            _REACH, place - 0.3, comparison.outcome, fontsize=SIZE - 1, color=tint, ha="right", bbox=BEHIND
        )
        return
    words = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    axes.annotate(comparison.outcome, (1, place), (10, 0), color=tint, fontsize=SIZE, **words)
