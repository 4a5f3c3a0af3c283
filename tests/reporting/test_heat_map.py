"""Matrices as images."""

from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm

from kvdistill.reporting.blocks import Picture
from kvdistill.reporting.drawing import draw
from kvdistill.reporting.heat_map import HeatMap, _places


def image(values: list[list[float]], **changes: object) -> HeatMap:
    found = np.array(values)
    settings = {
        "values": found,
        "rows": [f"row {place}" for place in range(found.shape[0])],
        "columns": [f"column {place}" for place in range(found.shape[1])],
        "row_name": "layer",
        "column_name": "step",
        "color_name": "loss (nats)",
    }
    return HeatMap(**settings | changes)  # pyright: ignore


def test_colors_are_logarithmic_from_a_decade_on() -> None:
    assert isinstance(image([[0.1, 1.0]]).scale(), LogNorm)
    for values in ([[0.2, 1.0]], [[0.0, 1.0]], [[np.nan, 1.0]]):
        assert not isinstance(image(values).scale(), LogNorm)
    scale = image([[0.1, 1.0]], limits=(0.0, 1.0)).scale()
    assert (scale.vmin, scale.vmax) == (0.0, 1.0)
    assert image([[np.nan, np.nan]]).scale().vmax == 1.0


def test_many_names_are_thinned_at_equal_distances() -> None:
    assert _places(3, 5) == [0, 1, 2]
    assert _places(10, 4) == [0, 3, 6, 9]


def test_axes_and_color_bar_are_named(tmp_path: Path) -> None:
    drawn = draw(image([[0.1, np.nan], [1.0, 2.0]]).paint, tmp_path / "a.svg", "caption")
    assert isinstance(drawn, Picture)
    html = drawn.html()
    for name in ("layer", "step", "loss (nats)", "row 1", "column 1"):
        assert html.count(f">{name}<") == 2
    assert "mathdefault" not in html
    bare = draw(image([[0.1], [1.0]], row_ticks=False).paint, tmp_path / "b.svg", "caption")
    assert "row 1" not in bare.html()
