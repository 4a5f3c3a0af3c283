"""Figures of an alignment: tokens, layers and heads of a teacher against those of the student."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvdistill.align.head_dim_adapter import Adapter
from kvdistill.align.head_norms import head_norms
from kvdistill.kv import Geometry
from kvdistill.reporting.align_report import TokenTable
from kvdistill.reporting.blocks import Block
from kvdistill.reporting.drawing import NARROW, SIZE, WIDE, draw, shortened

TOKENS = 48
"""Most student tokens in a figure; on a phone a third of them."""
NAMED = 48
"""Most names on an axis; of more, every second, third, ... is written."""
MAPS: tuple[Literal["keys", "values"], ...] = ("keys", "values")


def draw_tokens(tokens: TokenTable, teacher: str, folder: Path) -> Block:
    """The token alignment of one chain of thought, as a matrix with the texts of the tokens on its axes.

    Args:
        tokens: tokens of both sides and their weights.
        teacher: short name, also in the name of the file.
        folder: where the figure is written.

    Returns:
        The figure.
    """
    caption = (
        f"Tokens of {teacher} in each token of the student, at the start of the first sample's chain of "
        "thought; · is a space. A row without color is covered by no teacher token."
    )
    paint = partial(_tokens, tokens, teacher)
    return draw(paint, folder / f"tokens_{teacher}.svg", caption)


def draw_maps(adapter: Adapter, teacher: str, folder: Path) -> list[Block]:
    """The layer map, and the head maps of keys and of values.

    Args:
        adapter: the teacher's fitted adapter.
        teacher: short name, also in the names of the files.
        folder: where the figures are written.

    Returns:
        Three figures.
    """
    rows = [str(layer) for layer in adapter.student.layer_ids]
    columns = [str(layer) for layer in adapter.teacher.layer_ids]
    weights = np.zeros((len(rows), len(columns)))
    for pair in adapter.layer_map.pairs:
        weights[pair.student, pair.teacher] = pair.weight
    names = ("student layer", f"layer of {teacher}")
    caption = f"Layer map: the layers of {teacher} that each student layer reads, with their weights."
    paint = partial(matrix, weights, (rows, columns), names)
    blocks: list[Block] = [draw(paint, folder / f"layers_{teacher}.svg", caption)]
    for states in MAPS:
        norms = head_norms(adapter, states).numpy()
        heads = _heads(adapter.student), _heads(adapter.teacher)
        names = ("student layer.head", f"layer.head of {teacher}")
        caption = (
            f"Head map of {states}: the norm of the adapter's weights from each head of {teacher} to each "
            "head of the student."
        )
        paint = partial(matrix, norms, heads, names)
        blocks.append(draw(paint, folder / f"heads_{states}_{teacher}.svg", caption))
    return blocks


def matrix(
    values: Float[np.ndarray, "r c"],
    labels: tuple[Sequence[str], Sequence[str]],
    names: tuple[str, str],
    narrow: bool,
) -> Figure:
    """A matrix as an image, dark where it is large.

    Args:
        values: one row per label of the first sequence, one column per label of the second; 0 or more.
        labels: names of rows and of columns.
        names: names of the vertical and of the horizontal axis.
        narrow: whether it is for a phone.

    Returns:
        The figure.
    """
    width = WIDE
    if narrow:
        width = NARROW
    rows, columns = values.shape
    # Square cells of at most 0.5 inches, and room for the names of the columns.
    cell = min(0.5, (width - 1.5) / columns)
    height = min(max(cell * rows, 0.2 * min(rows, NAMED), 0.6), 12) + 1.2
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(values, cmap="Blues", vmin=0, aspect="auto", interpolation="nearest")
    axes.set_ylabel(names[0], fontsize=SIZE)
    axes.set_xlabel(names[1], fontsize=SIZE)
    _name(axes, labels)
    return figure


def _tokens(tokens: TokenTable, teacher: str, narrow: bool) -> Figure:
    most = TOKENS
    if narrow:
        most = TOKENS // 3
    values = np.array(tokens.weights)[:most]
    # Only the columns up to the last teacher token that one of the shown tokens overlaps.
    used = np.flatnonzero(values.any(0))
    stop = 1
    if len(used):
        stop = int(used[-1]) + 1
    labels = list(tokens.student[:most]), list(tokens.teacher[:stop])
    return matrix(values[:, :stop], labels, ("token of the student", f"token of {teacher}"), narrow)


def _name(axes: Axes, labels: tuple[Sequence[str], Sequence[str]]) -> None:
    """Write the names of rows and columns, of many only some."""
    for axis, names in zip((axes.yaxis, axes.xaxis), labels, strict=True):
        places = range(0, len(names), -(-len(names) // NAMED))
        axis.set_ticks(places, [shortened(names[place], 14) for place in places], fontsize=SIZE - 2)
    axes.tick_params(axis="x", rotation=90)


def _heads(geometry: Geometry) -> list[str]:
    """``layer.head`` of every head."""
    pairs = zip(geometry.layer_ids, geometry.layers, strict=True)
    return [f"{layer_id}.{head}" for layer_id, layer in pairs for head in range(layer.heads)]
