"""Accuracy by depth in a report: a table and grouped bars."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from kvdistill.records.intervals import wilson_interval
from kvdistill.records.schema import DepthCount
from kvdistill.reporting.blocks import Block, Table, Words, percent
from kvdistill.reporting.drawing import Label, canvas, draw, legend
from kvdistill.reporting.page import Section
from kvdistill.reporting.palette import INK, MUTED
from kvdistill.reporting.results import Row

MOST_DEPTHS = 12
"""Most depths in the figure; the table has all."""
_GROUP = 0.84
"""Width of the bars of one depth, of the distance between depths."""


def depth_section(folder: Path, rows: Sequence[Row], chance: float | None) -> list[Section]:
    """The section on accuracy by depth.

    Args:
        folder: figures are written to ``figures/`` in it.
        rows: lines of the results table, with counts by depth where these are known.
        chance: chance accuracy (0 to 1) over all questions, or None.

    Returns:
        One section; none where all questions have the same depth, or no depth is known.
    """
    known = [row for row in rows if row.by_depth]
    depths = sorted({depth for row in known for depth in row.by_depth or {}})
    if len(depths) < 2:
        return []
    cells = [[str(depth), *(_cell(row, depth) for row in known)] for depth in depths]
    caption = "Accuracy by depth, with its 95 % interval over questions."
    if len(depths) > MOST_DEPTHS:
        caption += f" Depths above {depths[MOST_DEPTHS - 1]} are in the table."
    paint = partial(depth_bars, known, depths[:MOST_DEPTHS], chance)
    told = (
        "Depth: the number of dependent steps from question to answer, or of steps in the gold chain of "
        "thought where the data give no depth. Each cell has the share of right answers and the number of "
        "questions."
    )
    blocks: list[Block] = [
        draw(paint, folder / "figures" / "depths.svg", caption),
        Table(("depth", *(row.measured.label for row in known)), cells),
        Words(told),
    ]
    return [Section("Accuracy by depth", blocks)]


def depth_bars(rows: Sequence[Row], depths: Sequence[int], chance: float | None, narrow: bool) -> Figure:
    """One group of bars per depth, one bar per row, each with its interval.

    Args:
        rows: lines of the results table that have counts by depth.
        depths: the depths that are shown, in ascending order.
        chance: chance accuracy (0 to 1), drawn as a line; None draws none.
        narrow: whether it is for a phone: the legend has one column, not two.
    """
    columns = 1 if narrow else 2
    figure, axes = canvas(3.2 + 0.24 * -(-len(rows) // columns), narrow)
    width = _GROUP / len(rows)
    labels = []
    for order, row in enumerate(rows):
        for group, depth in enumerate(depths):
            count = (row.by_depth or {}).get(depth)
            if count is None:
                continue
            place = group - _GROUP / 2 + (order + 0.5) * width
            interval = wilson_interval(count.correct, count.num)
            axes.bar(place, 100 * count.accuracy, width=0.9 * width, color=row.measured.tint, zorder=2)
            ends = (100 * interval.low, 100 * interval.high)
            axes.vlines(place, *ends, color=INK.light, linewidth=1.2, zorder=3)
        labels.append(Label(0.0, 0.0, row.measured.label, row.measured.tint, "s", "none"))
    axes.set_xticks(range(len(depths)), [str(depth) for depth in depths])
    axes.grid(visible=False, axis="x")
    axes.set_ylim(0, 104)
    axes.set_xlabel("depth (dependent steps)")
    axes.set_ylabel("accuracy (%)")
    if chance is not None:
        axes.axhline(100 * chance, color=MUTED.light, linestyle="--", linewidth=1.2, zorder=4)
        labels.append(Label(0.0, 0.0, f"chance {100 * chance:.1f} %", MUTED.light, "", "--"))
    legend(figure, labels, columns)
    return figure


def _cell(row: Row, depth: int) -> str:
    count: DepthCount | None = (row.by_depth or {}).get(depth)
    if count is None:
        return "–"
    return f"{percent(count.accuracy)} of {count.num}"
