"""Which numbers of slots and passes fit together."""

import pytest

from kvdistill.latent.slots import check_slots


@pytest.mark.parametrize(("slots", "passes"), [(1, 0), (1, 1), (24, 3), (24, 24)])
def test_numbers_that_fit(slots: int, passes: int) -> None:
    check_slots(slots, passes)


@pytest.mark.parametrize(
    ("slots", "passes", "message"), [(0, 0, "at least 1 slot"), (4, -1, "choose 0"), (4, 5, "<= 4")]
)
def test_numbers_that_do_not(slots: int, passes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_slots(slots, passes)
