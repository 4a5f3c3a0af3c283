"""The validation curve holds what was logged, and a file that has not changed is read once."""

from pathlib import Path

import pytest

from kvdistill.records.schema import Curve, Metrics
from kvdistill.records.validation import LastLogged, validation_curve

ACCURACY = {10: 0.25, 20: 0.5}


def test_a_curve_has_accuracy_and_log_probability_by_step() -> None:
    series = {"loss": {5: 1.0}, "validation_accuracy": ACCURACY, "validation_nats": {10: -2.0, 20: -1.5}}
    assert validation_curve("kv", series) == Curve(
        method="kv", steps=[10, 20], accuracy=[0.25, 0.5], nats=[-2.0, -1.5]
    )
    assert validation_curve("kv", {"loss": {5: 1.0}}) is None


@pytest.mark.parametrize("nats", [{}, {20: -1.5}, {10: float("nan"), 20: -1.5}])
def test_log_probabilities_are_left_out_unless_all_are_there(nats: dict[int, float]) -> None:
    curve = validation_curve("kv", {"validation_accuracy": ACCURACY, "validation_nats": nats})
    assert curve == Curve(method="kv", steps=[10, 20], accuracy=[0.25, 0.5])


def test_an_accuracy_in_percent_is_refused() -> None:
    with pytest.raises(ValueError, match="curve kv: an accuracy is not between 0 and 1"):
        validation_curve("kv", {"validation_accuracy": {1: 40.0}})


def test_the_last_step_and_accuracy_are_read_once_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read_rows = Metrics.read_rows
    monkeypatch.setattr(Metrics, "read_rows", lambda self: reads.append(self.path) or read_rows(self))
    metrics, logged = Metrics(tmp_path / "metrics.jsonl"), LastLogged()

    def last() -> tuple[int, float | None]:
        found = logged.read(metrics.path)
        return found.step, found.accuracy

    assert last() == (0, None)
    metrics.append_row(2, {"validation_accuracy": 0.25})
    metrics.append_row(3, {"loss": 1.0})
    assert [last(), last(), last()] == [(3, 0.25)] * 3
    assert len(reads) == 1
    metrics.append_row(4, {"validation_accuracy": 0.5})
    assert last() == (4, 0.5)
    assert len(reads) == 2
    metrics.path.unlink()
    assert last() == (0, None)
