"""The validation curve holds what was logged."""

import pytest

from kvdistill.records.schema import Curve
from kvdistill.records.validation import validation_curve

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
