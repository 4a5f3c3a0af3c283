"""``utility.json``: intervals by hand, and back as it went."""

from pathlib import Path

import pytest

from kvdistill.records.utility import UtilityRecord, utility_of


def test_counts_means_and_intervals_by_hand() -> None:
    found = utility_of("own", [True, False, True], [-1.0, -2.0, -3.0], chance=0.5)
    assert (found.num, found.correct, found.accuracy) == (3, 2, pytest.approx(2 / 3))
    # Wilson: p = 2/3, z = 1.959964; centre .593633, half .385967
    assert (found.low, found.high) == pytest.approx((0.207660, 0.938510), abs=1e-5)
    # mean -2, sd 1 of three values: -2 ± 1.959964 · 1 / √3
    assert (found.nats, found.nats_low, found.nats_high) == pytest.approx((-2, -3.1315857, -0.8684143))


def test_a_single_question_has_no_interval_of_the_mean() -> None:
    found = utility_of("own", [True], [-0.5])
    assert (found.accuracy, found.nats, found.nats_low, found.nats_high) == (1.0, -0.5, None, None)


def test_it_comes_back_as_it_went(tmp_path: Path) -> None:
    targets = [utility_of("own", [True, False], [-1.0, -2.0], 0.5), utility_of("other", [False], [-3.0])]
    record = UtilityRecord(data_set="chain", targets=targets)
    record.write(tmp_path / "utility.json")
    assert UtilityRecord.read(tmp_path / "utility.json") == record
