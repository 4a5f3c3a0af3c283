"""Figures of a study: every seed's accuracy, the validation curves, and the intervals that the claims rest on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from kvdistill.record import Curve
from kvdistill.reporting.claims import Comparison, JudgedClaim
from kvdistill.reporting.figures import GREY, SIZE, Label, canvas, colour, label_ends, save
from kvdistill.reporting.study_record import Estimate

_OUTCOME_COLOURS = {"supported": colour(2), "not supported": colour(1), "inconclusive": GREY}
_REACH = 6.0
"""How many deltas to each side the intervals of the claims are drawn."""


def seed_dots(estimates: Mapping[str, Estimate], path: Path) -> None:
    """Accuracy of each experiment: a dot a seed, the mean and its interval beside them; first on top."""
    figure, axes = canvas(7.2, 0.9 + 0.55 * len(estimates))
    for place, estimate in enumerate(estimates.values()):
        seeds = [100 * value for value in estimate.by_seed.values()]
        axes.plot(seeds, np.full(len(seeds), place + 0.16), "o", color=colour(place), markersize=5, alpha=0.6, markeredgewidth=0)
        mean = 100 * estimate.mean
        if estimate.low is not None and estimate.high is not None:
            ends = [[mean - 100 * max(estimate.low, 0)], [100 * min(estimate.high, 1) - mean]]
            axes.errorbar(mean, place - 0.16, xerr=ends, color=colour(place), capsize=4, linewidth=2)
        axes.plot(mean, place - 0.16, "D", color=colour(place), markersize=6)
        axes.annotate(f"{mean:.1f} %", (1, place), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center")
    axes.set_yticks(range(len(estimates)), list(estimates))
    axes.set_ylim(len(estimates) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("test accuracy (%)")
    save(figure, path)


def mean_curves(curves: Mapping[str, Sequence[Curve]], path: Path, colours: Mapping[str, int]) -> None:
    """Validation accuracy over steps: mean over seeds with a band from the lowest to the highest, where all were evaluated."""
    figure, axes = canvas(7.2, 4.3)
    labels, last = [], 1
    for name, of_seeds in curves.items():
        steps = sorted(set.intersection(*(set(curve.steps) for curve in of_seeds)))
        tables = [dict(zip(curve.steps, curve.accuracy, strict=True)) for curve in of_seeds]
        values = 100 * np.array([[table[step] for step in steps] for table in tables])
        if not steps:
            continue
        axes.fill_between(steps, values.min(0), values.max(0), color=colour(colours[name]), alpha=0.15, linewidth=0)
        axes.plot(steps, values.mean(0), color=colour(colours[name]), linewidth=2)
        labels.append(Label(float(steps[-1]), float(values.mean(0)[-1]), name, colour(colours[name])))
        last = max(last, steps[-1])
    axes.set_xlim(left=0, right=last)
    axes.set_ylim(0, 102)
    axes.set_xlabel("training steps")
    axes.set_ylabel("validation accuracy (%)")
    label_ends(axes, labels)
    save(figure, path)


def forest(claims: Sequence[JudgedClaim], path: Path) -> None:
    """The interval of every comparison in units of its delta, and the bound (a tick) that it has to clear; claim by claim."""
    rows = [(claim.title, [c for c in claim.comparisons if c.mean is not None]) for claim in claims]
    lines = [line for title, comparisons in rows if comparisons for line in (title, *comparisons)]
    figure, axes = canvas(7.2, 0.9 + 0.34 * len(lines))
    for bound in (-1, 0, 1):
        axes.axvline(bound, color="black" if bound == 0 else GREY, linestyle="-" if bound == 0 else ":", linewidth=1.2, zorder=1)
    for place, line in enumerate(lines):
        if isinstance(line, Comparison):
            _interval(axes, place, line)
    axes.set_yticks(range(len(lines)), [line.name if isinstance(line, Comparison) else line for line in lines])
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_fontweight("normal" if isinstance(line, Comparison) else "bold")
        label.set_fontsize(SIZE - 1)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlim(-_REACH, _REACH)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, pad=10)
    axes.set_xlabel("difference in deltas, with its 95 % interval")
    save(figure, path)


def _interval(axes: Axes, place: int, comparison: Comparison) -> None:
    """One line; ends beyond the edge become arrows."""
    assert comparison.mean is not None
    assert comparison.low is not None
    assert comparison.high is not None
    mean, low, high = (value / comparison.delta for value in (comparison.mean, comparison.low, comparison.high))
    tint = _OUTCOME_COLOURS[comparison.outcome]
    axes.plot(np.clip([low, high], -_REACH, _REACH), [place, place], color=tint, linewidth=2)
    axes.plot(np.clip(mean, -_REACH, _REACH), place, "D" if abs(mean) < _REACH else "none", color=tint, markersize=6)
    for end, beyond, arrow in ((-_REACH, low < -_REACH, "<"), (_REACH, high > _REACH, ">")):
        if beyond:
            axes.plot(end, place, arrow, color=tint, markersize=8, clip_on=False)
    bound = {"superiority": 0, "non_inferiority": -1, "negligible": 1}[comparison.kind]
    axes.plot(bound, place, "|", color="black", markersize=11, markeredgewidth=2)
    words = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    axes.annotate(comparison.outcome, (1, place), (10, 0), color=tint, fontsize=SIZE - 1, **words)
