"""The section of a report on routing: weights by sample, by layer and over training."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvdistill.records.routing import RoutingRecord
from kvdistill.records.schema import Metrics
from kvdistill.reporting.blocks import Block, Table, Words, percent
from kvdistill.reporting.drawing import Label, count_on, curve_canvas, draw, label_ends, shortened
from kvdistill.reporting.heat_map import HeatMap
from kvdistill.reporting.page import Section
from kvdistill.reporting.palette import method

_WEIGHT = "weight_"
_AGREEMENT = {"route_agreement": "training", "validation_route_agreement": "validation"}
_ENTROPY = {"route_entropy": "entropy"}
_LOOKS = ("e1", "kv", "cot", "right_crop", "direct", "rkv", "full", "shuffled")
"""Methods whose colors and markers the lines take in turn."""
Series = Mapping[str, Mapping[int, float]]
"""Values of metrics by step."""


def routing_section(folder: Path, record: RoutingRecord | None) -> list[Section]:
    """How a run's fusion weighs its teachers.

    Args:
        folder: the run folder, whose ``metrics.jsonl`` holds the course of training.
        record: ``routing.json`` of the run; None where it has none.

    Returns:
        One section; none where neither is there.
    """
    blocks: list[Block] = []
    figures = folder / "figures"
    if record is not None and record.weights:
        blocks += _at_the_end(record, figures)
    path = folder / "metrics.jsonl"
    if path.is_file():
        blocks += _over_training(Metrics(path).series(), figures)
    if not blocks:
        return []
    return [Section("Routing", blocks)]


def _at_the_end(record: RoutingRecord, figures: Path) -> list[Block]:
    """The record's table and images."""
    means = np.mean(record.weights, axis=0)
    counts = [record.best.count(name) for name in record.teachers]
    rows = [
        [name, percent(float(mean)), str(count)]
        for name, mean, count in zip(record.teachers, means, counts, strict=True)
    ]
    told = f"Weights of {len(record.sample_ids)} validation samples at the end of training."
    if record.agreement is not None:
        told += f" The largest weight is the most competent teacher's in {percent(record.agreement)}."
    caption = (
        "Routing weights by sample and teacher. Samples are sorted by their most competent teacher (white "
        "lines between groups), those without one last."
    )
    blocks: list[Block] = [
        Words(told),
        Table(("teacher", "mean weight", "samples it is best at"), rows),
        draw(partial(sample_weights, record), figures / "routing_samples.svg", caption),
    ]
    if record.layers is not None:
        caption = "Routing weights by student layer and teacher, mean over samples."
        layers = list(reversed(record.layers))
        image = HeatMap(
            values=np.array(layers),
            rows=[str(layer) for layer in reversed(range(len(layers)))],
            columns=record.teachers,
            row_name="student layer",
            column_name="teacher",
            color_name="weight (0 to 1)",
            limits=(0.0, 1.0),
        )
        blocks.append(draw(image.paint, figures / "routing_layers.svg", caption))
    return blocks


def sorted_samples(record: RoutingRecord) -> list[int]:
    """Places of the samples by best teacher, inside a group by falling weight of it; without one last."""

    def key(place: int) -> tuple[int, float]:
        best = record.best[place]
        if best is None:
            return len(record.teachers), -record.weights[place][0]
        column = record.teachers.index(best)
        return column, -record.weights[place][column]

    return sorted(range(len(record.weights)), key=key)


def sample_weights(record: RoutingRecord, narrow: bool) -> Figure:
    """The weights by sample and teacher as an image.

    Args:
        record: the weights.
        narrow: whether it is for a phone.
    """
    order = sorted_samples(record)
    image = HeatMap(
        values=np.array([record.weights[place] for place in order]),
        rows=[record.sample_ids[place] for place in order],
        columns=record.teachers,
        row_name="samples by best teacher",
        column_name="teacher",
        color_name="weight (0 to 1)",
        limits=(0.0, 1.0),
        row_ticks=False,
    )
    figure = image.paint(narrow)
    axes = figure.axes[0]
    groups = [record.best[place] for place in order]
    ends = [place for place in range(1, len(groups)) if groups[place] != groups[place - 1]]
    for place in ends:
        axes.axhline(place - 0.5, color="white", linewidth=2)
    # The name of each group is beside its middle.
    starts = [0, *ends]
    middles = [(start + stop - 1) / 2 for start, stop in zip(starts, [*ends, len(groups)], strict=True)]
    names = [groups[start] or "none known" for start in starts]
    axes.set_yticks(middles, [shortened(name, 14) for name in names])
    return figure


def _over_training(series: Series, figures: Path) -> list[Block]:
    """The curves of the columns that were logged."""
    weights = {name: name.removeprefix(_WEIGHT) for name in series if name.startswith(_WEIGHT)}
    best = "Share of samples whose largest weight is the most competent teacher's."
    entropy = "Entropy of the routing weights while training, in nats."
    panels = (
        ("agreement", _AGREEMENT, "agreement (%)", 100.0, best),
        ("weights", weights, "mean weight (%)", 100.0, "Mean weight of each teacher while training."),
        ("entropy", _ENTROPY, "entropy (nats)", 1.0, entropy),
    )
    blocks: list[Block] = []
    for file, names, axis, scale, caption in panels:
        curves = {
            label: {step: scale * value for step, value in series[name].items()}
            for name, label in names.items()
            if series.get(name)
        }
        if curves:
            paint = partial(routing_curves, curves, axis)
            blocks.append(draw(paint, figures / f"routing_{file}.svg", caption))
    return blocks


def routing_curves(curves: Series, axis: str, narrow: bool) -> Figure:
    """Values over training steps, one labeled line each.

    Args:
        curves: values by label and step.
        axis: name of the vertical axis, with its unit.
        narrow: whether it is for a phone.
    """
    figure, axes = curve_canvas(3.2 + 0.22 * len(curves), narrow)
    labels: list[Label] = []
    last = max(max(values) for values in curves.values())
    axes.set_xlim(0, max(last, 1))
    _limit(axes, curves, axis)
    for place, (name, values) in enumerate(curves.items()):
        look = method(_LOOKS[place % len(_LOOKS)])
        axes.plot(
            list(values),
            list(values.values()),
            color=look.tint.light,
            marker=look.marker,
            markevery=max(1, len(values) // 12),
            markersize=5,
            linewidth=2,
            clip_on=False,
        )
        end = list(values.values())[-1]
        labels.append(Label(float(last), end, name, look.tint.light, look.marker))
    axes.set_xlabel("training steps")
    axes.set_ylabel(axis)
    count_on(axes, 4)
    label_ends(axes, labels, narrow)
    return figure


def _limit(axes: Axes, curves: Series, axis: str) -> None:
    """Shares are shown from 0 to 100 %, other values from 0 to a little above the largest."""
    if "%" in axis:
        axes.set_ylim(0, 103)
        return
    finite: Sequence[float] = [
        value for values in curves.values() for value in values.values() if np.isfinite(value)
    ]
    axes.set_ylim(0, 1.1 * max([0.1, *finite]))
