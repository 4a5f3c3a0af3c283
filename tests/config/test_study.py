"""Sections of a study file: seeds as they are written."""

import pytest
from pydantic import ValidationError

from kvdistill.config.study import StudySection, seed_list


def test_seeds_are_lists_or_ranges() -> None:
    assert seed_list("0-3") == [0, 1, 2, 3]
    assert seed_list("0, 2, 4-6") == [0, 2, 4, 5, 6]
    assert StudySection(name="a", seeds="3-5").seeds == (3, 4, 5)  # pyright: ignore
    assert StudySection(name="a", seeds=(7,)).seeds == (7,)
    with pytest.raises(ValidationError, match="should be seeds such as 0-7"):
        StudySection(name="a", seeds="0..7")  # pyright: ignore
