"""Log-probabilities in a report: as text, and as curves over training."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from kvdistill.records.schema import Curve
from kvdistill.reporting.drawing import Label, curve_canvas, label_ends, scale_training_axes
from kvdistill.reporting.figures import curve_name
from kvdistill.reporting.palette import method

EXPLAINED = (
    "Nats: log-probability of the right answer, its end token included, mean over questions; 0 is certainty. "
    "The answer is read in the same mode; CoT reads it behind the gold chain of thought, not its own, so its "
    "value is that of the last step alone."
)
"""What the numbers are, for the text beside a table."""


def nats(value: float | None) -> str:
    """A log-probability with three digits; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.3g}"


def nats_range(low: float | None, high: float | None) -> str:
    """An interval of log-probabilities, clipped to their largest value 0; a dash without one."""
    if low is None or high is None:
        return "–"
    return f"[{low:.3g}, {min(high, 0.0):.3g}]"


def nats_curves(curves: Mapping[str, Curve], narrow: bool) -> Figure:
    """Log-probability of the right answer over training steps, one labeled line per method.

    Args:
        curves: curve by method; those without log-probabilities are left out.
        narrow: whether it is for a phone.
    """
    shown = {key: (curve, curve.nats) for key, curve in curves.items() if curve.nats is not None}
    figure, axes = curve_canvas(4.6 + 0.2 * len(shown), narrow)
    scale_training_axes(axes, max(1, *(curve.steps[-1] for curve, _ in shown.values())), narrow)
    lowest = min(min(values) for _, values in shown.values())
    # Certainty, 0, is at the top; without any doubt anywhere there is still an axis.
    axes.set_ylim(1.05 * min(lowest, -0.01), 0.03 * max(-lowest, 0.01))
    axes.set_ylabel("right answer (nats)")
    labels = []
    for key, (curve, values) in shown.items():
        known = method(key)
        tint = known.tint.light
        every = max(1, len(values) // 12)
        line = axes.plot(curve.steps, values, color=tint, linewidth=2, marker=known.marker, clip_on=False)[0]
        line.set(markersize=5, markevery=every)
        labels.append(Label(float(curve.steps[-1]), values[-1], curve_name(key, curve), tint, known.marker))
    label_ends(axes, labels, narrow)
    return figure
