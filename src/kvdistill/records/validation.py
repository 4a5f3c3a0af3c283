"""The validation curve of a run, from its logged metrics."""

from collections.abc import Mapping
from math import isfinite

from kvdistill.records.schema import Curve


def validation_curve(method: str, series: Mapping[str, Mapping[int, float]]) -> Curve | None:
    """Accuracy and log-probability on the validation set over training steps.

    Args:
        method: name of the curve.
        series: values of each metric by step, as ``Metrics.series`` returns them.

    Returns:
        The curve; None where no validation was logged. Its log-probabilities are None where a step has none
        (rows of older versions) or one is not finite.

    Raises:
        ValueError: if an accuracy is not between 0 and 1.
    """
    accuracy = series.get("validation_accuracy")
    if not accuracy:
        return None
    logged = series.get("validation_nats", {})
    nats = [logged[step] for step in accuracy if isfinite(logged.get(step, float("nan")))]
    if len(nats) < len(accuracy):
        return Curve(method=method, steps=list(accuracy), accuracy=list(accuracy.values()))
    return Curve(method=method, steps=list(accuracy), accuracy=list(accuracy.values()), nats=nats)


def last_accuracy(series: Mapping[str, Mapping[int, float]]) -> float | None:
    """The last validation accuracy (0 to 1) of a run; None where no validation was logged.

    Args:
        series: values of each metric by step, as ``Metrics.series`` returns them.
    """
    accuracies = list(series.get("validation_accuracy", {}).values())
    if not accuracies:
        return None
    return accuracies[-1]
