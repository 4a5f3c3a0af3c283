"""Criteria of a pilot: bounds, and what counts as met."""

from pathlib import Path

import pytest

from kvdistill.records.pilot import Criterion, PilotRecord


@pytest.mark.parametrize(
    ("value", "low", "high", "met", "bounds"),
    [
        (0.4, 0.4, 0.8, True, "0.4 to 0.8"),
        (0.81, 0.4, 0.8, False, "0.4 to 0.8"),
        (0.96, 0.95, None, True, "at least 0.95"),
        (0.41, None, 0.4, False, "at most 0.4"),
        (None, None, 0.05, False, "at most 0.05"),
        (3.0, None, None, True, "–"),
    ],
)
def test_bounds_count_as_met_and_a_missing_value_does_not(
    value: float | None, low: float | None, high: float | None, met: bool, bounds: str
) -> None:
    criterion = Criterion(name="a", value=value, low=low, high=high)
    assert (criterion.met, criterion.bounds) == (met, bounds)


def test_the_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    criteria = [Criterion(name="a", value=0.5, by_seed={0: 0.4, 3: 0.6}, low=0.4)]
    record = PilotRecord(
        candidate="c",
        file="f.toml",
        primary="area",
        seeds=[0, 3],
        accepted=True,
        reasons=[],
        criteria=criteria,
    )
    record.write(tmp_path / "pilot.json")
    assert PilotRecord.read(tmp_path / "pilot.json") == record
