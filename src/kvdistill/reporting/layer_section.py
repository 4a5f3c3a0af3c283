"""The KV loss of each student layer over training, as an image."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kvdistill.records.schema import Metrics
from kvdistill.reporting.drawing import draw
from kvdistill.reporting.heat_map import HeatMap
from kvdistill.reporting.page import Section

_LAYER = "kv_layer"


def layer_section(folder: Path) -> list[Section]:
    """The KV loss by layer and step, from the columns ``kv_layer0``, ... of ``metrics.jsonl``.

    Args:
        folder: the run folder; the figure is written to ``figures/`` in it.

    Returns:
        One section; none where fewer than two layers or two steps were logged.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    losses = layer_losses(Metrics(path).series())
    if losses is None:
        return []
    caption = (
        "KV loss of each compared student layer over training, the lowest layer at the bottom; colors are on "
        "a logarithmic scale where the losses span a factor of ten or more."
    )
    return [Section("KV loss by layer", [draw(losses.paint, folder / "figures" / "kv_layers.svg", caption)])]


def layer_losses(series: Mapping[str, Mapping[int, float]]) -> HeatMap | None:
    """The losses as an image: one row a layer, the highest first, one column a logged step.

    Args:
        series: values of each metric by step.

    Returns:
        The image; None below two layers or two steps.
    """
    names = [name for name in series if name.startswith(_LAYER) and name.removeprefix(_LAYER).isdigit()]
    layers = sorted((int(name.removeprefix(_LAYER)) for name in names), reverse=True)
    steps = sorted({step for name in names for step in series[name]})
    if len(layers) < 2 or len(steps) < 2:
        return None
    values = [[series[f"{_LAYER}{layer}"].get(step, np.nan) for step in steps] for layer in layers]
    return HeatMap(
        values=np.array(values),
        rows=[str(layer) for layer in layers],
        columns=[str(step) for step in steps],
        row_name="compared layer",
        column_name="training step",
        color_name="KV loss",
    )
