"""Shared by all figures: style, labels beside curves and points, SVG output and its error handling."""

import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kvdistill.records.jsonfile import write_atomic
from kvdistill.reporting.blocks import Picture, Words
from kvdistill.reporting.palette import INK, MUTED, PAPER, RULE

SIZE = 10.5
WIDE, NARROW = 8.4, 3.72
"""Width in inches of a figure on a screen and on a phone; both are shown unscaled, so text keeps its size."""
CURVES_HIGH = 4.3
"""Height in inches of a figure of curves or points on a screen."""
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": SIZE,
    "text.color": INK.light,
    "axes.edgecolor": INK.light,
    "axes.labelcolor": INK.light,
    "xtick.color": INK.light,
    "ytick.color": INK.light,
    "figure.facecolor": PAPER.light,
    "axes.facecolor": PAPER.light,
    "text.parse_math": False,  # names may hold a $
    "svg.fonttype": "none",  # text stays text, so it can be selected and searched
}
"""matplotlib's settings; the light colors are replaced by CSS variables on the page."""
BEHIND = {"facecolor": PAPER.light, "edgecolor": "none", "pad": 0.8}
"""Box behind a text that lines may cross."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


Line = Literal["-", "--", ":", "-.", "none"]
"""matplotlib's line styles."""


@dataclass(frozen=True)
class Label:
    """A name written beside the point or curve that it names."""

    x: float
    y: float
    """Position of what is named, in data coordinates."""
    text: str
    tint: str
    """Color, as hexadecimal RGB."""
    marker: str = ""
    """Marker and line style, for the legend on a phone."""
    line: Line = "-"


def draw(paint: Callable[[bool], Figure], path: Path, caption: str) -> Picture | Words:
    """Draw a figure twice, for a screen and for a phone, and write both as SVG.

    Args:
        paint: makes the figure; its argument is True for the phone's.
        path: the file for the screen; the phone's has ``-narrow`` in its name.
        caption: text under the figure.

    Returns:
        The figure; where it cannot be drawn, a sentence with the reason instead, so that the report is still
        written.
    """
    narrow = path.with_name(f"{path.stem}-narrow.svg")
    try:
        for place, is_narrow in ((path, False), (narrow, True)):
            write_atomic(place, _svg(paint, is_narrow, place.stem))
    except OSError:
        raise
    except Exception as error:  # a drawing library may raise anything on unforeseen data
        for place in (path, narrow):
            place.unlink(missing_ok=True)
        reason = " ".join(str(error).split()) or type(error).__name__
        return Words(f"The figure {path.name} could not be drawn: {reason}. The tables hold its numbers.")
    return Picture(path, narrow, caption)


def _svg(paint: Callable[[bool], Figure], is_narrow: bool, salt: str) -> str:
    """The figure as SVG text; ``salt`` makes its ids differ from those of the page's other figures."""
    held = BytesIO()
    looks: dict[Any, Any] = {**_STYLE, "svg.hashsalt": salt}
    with mpl.rc_context(looks), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has the glyph
        paint(is_narrow).savefig(held, format="svg", metadata={"Date": None, "Creator": None})
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", held.getvalue().decode())


def canvas(height: float, narrow: bool) -> tuple[Figure, Axes]:
    """A figure with one styled pair of axes.

    Args:
        height: inches.
        narrow: whether it is for a phone; sets the width.
    """
    width = NARROW if narrow else WIDE
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, style(figure.add_subplot())


def curve_canvas(narrow_height: float, narrow: bool) -> tuple[Figure, Axes]:
    """The canvas of labeled curves or points.

    Args:
        narrow_height: inches on a phone, where a legend below takes a part.
        narrow: whether it is for a phone.
    """
    if narrow:
        return canvas(narrow_height, narrow)
    return canvas(CURVES_HIGH, narrow)


def scale_training_axes(axes: Axes, last_step: int, narrow: bool) -> None:
    """Scale and name the axes of validation curves: steps, and accuracy in percent."""
    axes.set_xlim(left=0, right=last_step)
    axes.set_ylim(0, 103)
    axes.set_xlabel("training steps")
    axes.set_ylabel("validation accuracy (%)")
    ticks = 4 if narrow else 7
    count_on(axes, ticks)


def style(axes: Axes) -> Axes:
    """Apply the reports' style to axes (spines, grid, font sizes); returns the same axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=RULE.light, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SIZE)
    axes.xaxis.label.set_fontsize(SIZE)
    axes.yaxis.label.set_fontsize(SIZE)
    return axes


def count_on(axes: Axes, ticks: int = 7) -> None:
    """Put the ticks of the horizontal axis at integers only, for steps, passes and slots.

    Args:
        axes: the axes.
        ticks: maximum number of intervals between ticks.
    """
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}"))
    )


def name_rows(axes: Axes, names: Sequence[str], narrow: bool) -> None:
    """Name the rows of a chart on its vertical axis; on a phone the axis stays empty."""
    if narrow:
        axes.set_yticks([], [])
    else:
        axes.set_yticks(range(len(names)), names)


def shortened(text: str, length: int = 40) -> str:
    """A name in one line of at most ``length`` characters, cut with an ellipsis."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    return f"{text[: length - 1]}…"


def wrapped(text: str, width: int) -> str:
    """A name in at most two lines of ``width`` characters, cut with an ellipsis."""
    return textwrap.fill(text, width, max_lines=2, placeholder="…")


def label_ends(axes: Axes, labels: Sequence[Label], narrow: bool) -> None:
    """Write names in the right margin of the axes, without overlap; on a phone as a legend below."""
    if narrow:
        legend(axes.figure, labels)  # pyright: ignore[reportArgumentType]
        return
    low, high = axes.get_ylim()
    ordered = sorted(labels, key=lambda label: label.y)
    places = _spread([(label.y - low) / (high - low) for label in ordered], 1.25 * SIZE / _points_high(axes))
    for place, label in zip(places, ordered, strict=True):
        words = axes.annotate(
            shortened(label.text),
            (1, place),
            (6, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
        )
        words.set(color=label.tint, fontsize=SIZE)


def label_points(axes: Axes, labels: Sequence[Label], narrow: bool) -> None:
    """Write names beside their points, toward the middle and without overlap, joined by a thin line; on a
    phone as a legend below.
    """
    if narrow:
        legend(axes.figure, labels)  # pyright: ignore[reportArgumentType]
        return
    low, high = axes.get_ylim()
    middle = sum(axes.get_xlim()) / 2
    ordered = sorted(labels, key=lambda label: label.y)
    places = _spread([label.y for label in ordered], (high - low) * 1.35 * SIZE / _points_high(axes))
    for place, label in zip(places, ordered, strict=True):
        side, aside = "right", label.x - 0.05 * middle
        if label.x < middle:
            side, aside = "left", label.x + 0.05 * middle
        axes.plot([label.x, aside], [label.y, place], color=label.tint, linewidth=0.8)
        axes.text(
            aside,
            place,
            f" {shortened(label.text)} ",
            color=label.tint,
            fontsize=SIZE,
            va="center",
            ha=side,
            bbox=BEHIND,
        )


def legend(figure: Figure, labels: Sequence[Label], columns: int = 1) -> None:
    """Add a legend below the figure, in the order given."""
    handles = [
        Line2D([], [], color=label.tint, marker=label.marker, linestyle=label.line, linewidth=2)
        for label in labels
    ]
    names = [shortened(label.text) for label in labels]
    figure.legend(
        handles, names, loc="outside lower left", frameon=False, ncols=columns, fontsize=SIZE, borderpad=0.2
    )


def level(axes: Axes, share: float, name: str, line: Line) -> Label:
    """Draw a horizontal line at a share (0 to 1), on an axis in percent; returns its label."""
    axes.axhline(100 * share, color=MUTED.light, linestyle=line, linewidth=1.2, zorder=1)
    return Label(axes.get_xlim()[1], 100 * share, f"{name} {100 * share:.1f} %", MUTED.light, line=line)


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights in ascending order, moved apart to at least ``gap`` while the mean of each cluster stays."""
    groups: list[list[float]] = []
    for height in heights:
        # Clusters that overlap are merged, until none does.
        groups.append([height])
        while len(groups) > 1 and _reach(groups[-2], gap, 1) + gap > _reach(groups[-1], gap, -1):
            last = groups.pop()
            groups[-1] += last
    return [_reach(group, gap, -1) + gap * place for group in groups for place in range(len(group))]


def _reach(group: Sequence[float], gap: float, side: int) -> float:
    """Height of a cluster's lowest (side -1) or highest (side 1) label, spaced by ``gap`` around its mean."""
    return sum(group) / len(group) + side * gap * (len(group) - 1) / 2


def _points_high(axes: Axes) -> float:
    """Height of the axes in points (1/72 inch), the unit of font sizes."""
    return axes.get_window_extent().height * 72 / axes.figure.dpi
