"""The validation curve of a run and how far it got, from its logged metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from kvdistill.records.schema import Curve, Metrics


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


@dataclass
class LastLogged:
    """Last step and validation accuracy of a run; its metrics are read again only once they have changed."""

    step: int = 0
    """The last logged step; 0 before the first."""
    accuracy: float | None = None
    """The last validation accuracy (0 to 1); None before the first validation."""
    _stamp: tuple[Path, int, int] | None = None
    """Path, size in bytes and time of the last change in ns of the file that was read."""

    def read(self, path: Path) -> "LastLogged":
        """Bring both values up to date.

        Args:
            path: the run's ``metrics.jsonl``.

        Returns:
            This object; without a file as before the first step.
        """
        if not path.is_file():
            self.step, self.accuracy, self._stamp = 0, None, None
            return self
        status = path.stat()
        stamp = (path, status.st_size, status.st_mtime_ns)
        if stamp != self._stamp:
            series = Metrics(path).series()
            self.step = max((max(values) for values in series.values()), default=0)
            self.accuracy = last_accuracy(series)
            self._stamp = stamp
        return self
