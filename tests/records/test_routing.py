"""Routing weights as a file."""

from dataclasses import replace
from pathlib import Path

import pytest

from kvdistill.records.routing import ROUTING, RoutingRecord

RECORD = RoutingRecord(
    teachers=["add", "sub"],
    sample_ids=["7a", "11", "13", "17"],
    weights=[[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.0, 0.0]],
    layers=[[0.5, 0.5], [0.35, 0.65]],
    best=["add", "sub", "sub", None],
)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    for record in (RECORD, replace(RECORD, layers=None)):
        record.write(tmp_path / ROUTING)
        assert RoutingRecord.read(tmp_path / ROUTING) == record


def test_agreement_counts_the_samples_with_a_best_teacher() -> None:
    # Samples 7a and 11 agree, sample 13 does not, sample 17 has no best teacher.
    assert RECORD.agreement == pytest.approx(2 / 3)
    assert replace(RECORD, best=[None] * 4).agreement is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"best": ["add"]}, "4 samples, 4 rows of weights and 1 best teachers. Give one of each a sample."),
        ({"layers": [[1.0]]}, "a row has 1 weights, and there are 2 teachers \\(add, sub\\)"),
        ({"best": ["add", "mul", None, None]}, "mul is the best teacher of a sample and none of add, sub"),
    ],
)
def test_lists_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RECORD, **changes)
