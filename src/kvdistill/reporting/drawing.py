"""What all figures have in common: how they look, how names are written beside what they name, and what
happens when one fails.
"""

import re
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
"""Inches of a figure on a screen and on a phone; both are shown in this size, so that text keeps its own."""
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
    "text.parse_math": False,  # a name with $ is a name
    "svg.fonttype": "none",  # text stays text: it can be selected, and a phone shows it as large as a screen
}
BEHIND = {"facecolor": PAPER.light, "edgecolor": "none", "pad": 0.8}
"""A box behind a text that lines may cross."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


Line = Literal["-", "--", ":", "-.", "none"]


@dataclass(frozen=True)
class Label:
    """A name to write beside what it names, in data coordinates."""

    x: float
    y: float
    text: str
    tint: str
    marker: str = ""
    line: Line = "-"


def draw(paint: Callable[[bool], Figure], path: Path, caption: str) -> Picture | Words:
    """Paint a figure for a screen and for a phone (the argument of ``paint``) into two SVG files, ``path``
    and its ``-narrow`` twin.

    A figure that cannot be painted does not cost the report: a sentence with the reason takes its place.
    """
    narrow = path.with_name(f"{path.stem}-narrow.svg")
    try:
        for place, is_narrow in ((path, False), (narrow, True)):
            write_atomic(place, _svg(paint, is_narrow, place.stem))
    except OSError:
        raise
    except Exception as error:  # whatever a drawing library makes of data that nobody foresaw
        for place in (path, narrow):
            place.unlink(missing_ok=True)
        reason = " ".join(str(error).split()) or type(error).__name__
        return Words(f"The figure {path.name} could not be drawn: {reason}. The tables hold its numbers.")
    return Picture(path, narrow, caption)


def _svg(paint: Callable[[bool], Figure], is_narrow: bool, salt: str) -> str:
    """The figure as SVG; ids inside differ from those of every other figure of the page."""
    held = BytesIO()
    looks: dict[Any, Any] = {**_STYLE, "svg.hashsalt": salt}
    with mpl.rc_context(looks), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has the glyph
        paint(is_narrow).savefig(held, format="svg", metadata={"Date": None, "Creator": None})
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", held.getvalue().decode())


def canvas(height: float, narrow: bool) -> tuple[Figure, Axes]:
    """A figure of this many inches in height, and of its own width, with one styled pair of axes."""
    figure = Figure(figsize=(NARROW if narrow else WIDE, height), layout="constrained")
    return figure, style(figure.add_subplot())


def style(axes: Axes) -> Axes:
    """The house's look; both axes' ticks are at whole numbers where ``count_on`` is asked for."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=RULE.light, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SIZE)
    axes.xaxis.label.set_fontsize(SIZE)
    axes.yaxis.label.set_fontsize(SIZE)
    return axes


def count_on(axes: Axes, ticks: int = 7) -> None:
    """Ticks of the horizontal axis at whole numbers only: steps, passes and slots are counted."""
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}"))
    )


def shortened(text: str, length: int = 40) -> str:
    """A name that fits into a figure, in one line."""
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def label_ends(axes: Axes, labels: Sequence[Label], narrow: bool) -> None:
    """Write the names in the margin right of the axes, apart from each other; on a phone in rows below."""
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
    """Write the names beside the points, towards the middle and apart from each other, with a thin line to
    what they name.
    """
    if narrow:
        legend(axes.figure, labels)  # pyright: ignore[reportArgumentType]
        return
    low, high = axes.get_ylim()
    middle = sum(axes.get_xlim()) / 2
    ordered = sorted(labels, key=lambda label: label.y)
    places = _spread([label.y for label in ordered], (high - low) * 1.35 * SIZE / _points_high(axes))
    for place, label in zip(places, ordered, strict=True):
        left = label.x < middle
        aside = label.x + (1 if left else -1) * 0.05 * middle
        axes.plot([label.x, aside], [label.y, place], color=label.tint, linewidth=0.8)
        side = "left" if left else "right"
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
    """The names in rows under the figure, in the order given."""
    handles = [
        Line2D([], [], color=label.tint, marker=label.marker, linestyle=label.line, linewidth=2)
        for label in labels
    ]
    names = [shortened(label.text) for label in labels]
    figure.legend(
        handles, names, loc="outside lower left", frameon=False, ncols=columns, fontsize=SIZE, borderpad=0.2
    )


def level(axes: Axes, share: float, name: str, line: Line) -> Label:
    """A level line across the axes at this share, in percent; returns its label."""
    axes.axhline(100 * share, color=MUTED.light, linestyle=line, linewidth=1.2, zorder=1)
    return Label(axes.get_xlim()[1], 100 * share, f"{name} {100 * share:.1f} %", MUTED.light, line=line)


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, lowest first, moved so that neighbors are ``gap`` apart and their mean stays."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _reach(groups[-2], gap, 1) + gap > _reach(groups[-1], gap, -1):
            last = groups.pop()
            groups[-1] += last
    return [_reach(group, gap, -1) + gap * place for group in groups for place in range(len(group))]


def _reach(group: Sequence[float], gap: float, side: int) -> float:
    """Where a group's lowest (side -1) or highest (1) label is, its members a gap apart about their mean."""
    return sum(group) / len(group) + side * gap * (len(group) - 1) / 2


def _points_high(axes: Axes) -> float:
    """Height of the axes in points, the unit of font sizes."""
    return axes.get_window_extent().height * 72 / axes.figure.dpi
