"""Plurals and digits."""

import pytest

from kvdistill.console.wording import counted, short_number


def test_one_thing_is_no_plural() -> None:
    assert [counted(number, "thread") for number in (0, 1, 2, 1200)] == [
        "0 threads",
        "1 thread",
        "2 threads",
        "1,200 threads",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.895, "2.9"), (0.6936, "0.69"), (34.84, "35"), (9.97, "10"), (130.2, "130"), (0.999, "1.0")],
)
def test_measured_numbers_have_two_digits(value: float, text: str) -> None:
    assert short_number(value) == text
