"""Settings of the bridges."""

from typing import get_args

from kvdistill.align.time_align import NearestSlot
from kvdistill.target.methods import BridgeMethod, Lower


def test_bridges_are_told_apart_by_kind() -> None:
    assert [kind().kind for kind in get_args(BridgeMethod)] == ["same", "lift", "lower"]


def test_the_defaults_of_lower_are_those_of_one_text() -> None:
    method = Lower()
    assert (method.order, method.calibration_target, method.adapters) == (None, "student_cache", None)
    assert method.match == NearestSlot()
