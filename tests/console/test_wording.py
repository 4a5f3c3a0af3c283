"""Plurals and digits."""

import pytest

from kvdistill.console.wording import counted, number, short_number, size_text


def test_one_thing_is_no_plural() -> None:
    assert [counted(number, "thread") for number in (0, 1, 2, 1200)] == [
        "0 threads",
        "1 thread",
        "2 threads",
        "1,200 threads",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.895, "2.9"), (0.6936, "0.69"), (34.84, "35"), (9.97, "10"), (130.2, "130"), (0.999, "1"), (4.0, "4")],
)
def test_measured_numbers_have_two_digits(value: float, text: str) -> None:
    assert short_number(value) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (3, "3"),
        (0.12345, "0.123"),
        (999.96, "1000"),
        (12345.6, "12346"),
        (41.25, "41.2"),
        (7.0, "7"),
    ],
)
def test_numbers(value: float | int | None, shown: str) -> None:
    assert number(value) == shown
    assert number(None, "never") == "never"


def test_sizes_are_readable() -> None:
    assert [size_text(size) for size in (0, 3 * 2**20, 2**30 // 5, 15.2 * 2**30)] == [
        "0.0 MiB",
        "3.0 MiB",
        "0.2 GiB",
        "15.2 GiB",
    ]
