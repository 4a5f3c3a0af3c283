"""A matrix as an image with named rows and columns and a color bar."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from kvdistill.reporting.drawing import NARROW, SIZE, WIDE, shortened

_DECADES = 10.0
"""Ratio of the largest to the smallest value from which colors are on a logarithmic scale."""
_HIGHEST, _ROW, _LOW_ROW = 6.0, 0.3, 0.07
"""Most inches of the image, and inches of a row with and without a name."""
_UPRIGHT = 12
"""Most columns whose names are all written, upright where they do not fit otherwise."""
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
_CHARACTER = 0.085
"""Inches a character of a tick label takes."""


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """A matrix to draw."""

    values: Float[np.ndarray, "r c"]
    """NaN is left blank."""
    rows: Sequence[str]
    columns: Sequence[str]
    row_name: str
    column_name: str
    color_name: str
    """Name of the color bar, with the unit."""
    limits: tuple[float, float] | None = None
    """Ends of the colors; None takes those of the values, on a log scale where they span a decade or more."""
    row_ticks: bool = True
    """Whether rows have names beside them."""

    def scale(self) -> Normalize:
        """Values to colors."""
        if self.limits is not None:
            return Normalize(*self.limits)
        shown = self.values[np.isfinite(self.values)]
        if not shown.size:
            return Normalize(0.0, 1.0)
        low, high = float(shown.min()), float(shown.max())
        if low > 0 and high / low >= _DECADES:
            return LogNorm(low, high)
        return Normalize(low, high)

    def paint(self, narrow: bool) -> Figure:
        """The figure.

        Args:
            narrow: whether it is for a phone.
        """
        width = WIDE
        if narrow:
            width = NARROW
        high = self._height()
        figure = Figure(figsize=(width, high + 1.2 + 0.8 * narrow), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(
            self.values, cmap="viridis", norm=self.scale(), aspect="auto", interpolation="nearest"
        )
        axes.set_ylabel(self.row_name, fontsize=SIZE)
        axes.set_xlabel(self.column_name, fontsize=SIZE)
        axes.set_yticks([])
        if self.row_ticks:
            places = _places(len(self.rows), max(2, int(high / 0.2)))
            axes.set_yticks(places, [shortened(self.rows[place], 16) for place in places], fontsize=SIZE - 1)
        self._name_columns(axes, width)
        # On a phone the color bar is below, so that the image keeps its width.
        side: Literal["right", "bottom"] = "right"
        if narrow:
            side = "bottom"
        bar = figure.colorbar(image, ax=axes, pad=0.02, location=side)
        bar.set_label(self.color_name, fontsize=SIZE)
        bar.ax.tick_params(labelsize=SIZE - 1)
        # Plain numbers: the formatter of a logarithmic scale writes formulas.
        bar.ax.yaxis.set_major_formatter(_PLAIN)
        bar.ax.xaxis.set_major_formatter(_PLAIN)
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.ax.xaxis.set_minor_formatter(NullFormatter())
        return figure

    def _height(self) -> float:
        """Inches of the image; rows without names are low."""
        if self.row_ticks:
            return min(max(_ROW * len(self.rows), 1.2), _HIGHEST)
        return min(max(_LOW_ROW * len(self.rows), 2.4), _HIGHEST)

    def _name_columns(self, axes: Axes, width: float) -> None:
        """Write the names of the columns: as many as fit, and a few long ones upright."""
        names = [shortened(name, 16) for name in self.columns]
        room = max(2, int((width - 2.2) / (_CHARACTER * (max(map(len, names)) + 2))))
        places, rotation = _places(len(names), room), 0
        if room < len(names) <= _UPRIGHT:
            places, rotation = list(range(len(names))), 90
        axes.set_xticks(places, [names[place] for place in places], fontsize=SIZE - 1, rotation=rotation)


def _places(num: int, most: int) -> list[int]:
    """At most ``most`` places of ``num`` at equal distances, from the first."""
    return list(range(0, num, -(-num // most)))
