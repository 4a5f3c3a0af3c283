"""Which numbers of slots and passes fit together."""

import pytest

from kvdistill.latent.slots import check_slots, num_placeholders


@pytest.mark.parametrize(("slots", "passes"), [(1, 0), (1, 1), (24, 3), (24, 24)])
def test_numbers_that_fit(slots: int, passes: int) -> None:
    check_slots(slots, passes)


def test_blocks_may_have_more_passes_than_slots() -> None:
    """No slot is final there: every pass changes all of them."""
    check_slots(1, 6, "blocks")
    with pytest.raises(ValueError, match="choose 0"):
        check_slots(4, -1, "blocks")


def test_placeholders_by_hand() -> None:
    """Of 24 slots in 3 passes, 21 are read as placeholders first; in blocks all are."""
    assert num_placeholders(24, 3, "shift") == 21
    assert num_placeholders(24, 3, "blocks") == 24
    assert num_placeholders(4, 4, "shift") == 0


@pytest.mark.parametrize(
    ("slots", "passes", "message"), [(0, 0, "at least 1 slot"), (4, -1, "choose 0"), (4, 5, "<= 4")]
)
def test_numbers_that_do_not(slots: int, passes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_slots(slots, passes)
