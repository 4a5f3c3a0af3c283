"""Sections of a study file: seeds and comparisons as they are written."""

import pytest
from pydantic import ValidationError

from kvdistill.config.study import ClaimSection, Comparison, StudySection, comparison, seed_list


def test_seeds_are_lists_or_ranges() -> None:
    assert seed_list("0-3") == [0, 1, 2, 3]
    assert seed_list("0, 2, 4-6") == [0, 2, 4, 5, 6]
    assert StudySection(name="a", seeds="3-5").seeds == (3, 4, 5)  # pyright: ignore
    assert StudySection(name="a", seeds=(7,)).seeds == (7,)
    with pytest.raises(ValidationError, match="should be seeds such as 0-7"):
        StudySection(name="a", seeds="0..7")  # pyright: ignore


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("E4 > E1", Comparison("E4", "E1", "superiority", None)),
        ("area: rkv>full", Comparison("rkv", "full", "superiority", "area")),
        ("E4 >= E2 - delta", Comparison("E4", "E2", "non_inferiority", None)),
        ("nats: a_0.1 <= b-1 + delta", Comparison("a_0.1", "b-1", "negligible", "nats")),
    ],
)
def test_comparisons_are_read(text: str, read: Comparison) -> None:
    assert comparison(text) == read


@pytest.mark.parametrize("text", ["E4 < E1", "E4 >= E1", "E4 > E1 + delta", "E4", "E4 <= E1 - delta"])
def test_other_comparisons_are_refused_with_the_forms_that_exist(text: str) -> None:
    with pytest.raises(ValueError, match=r"write A > B \(better\)"):
        comparison(text)
    with pytest.raises(ValidationError, match="is no comparison"):
        ClaimSection(title="a", compare=(text,))
