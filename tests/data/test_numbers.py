import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.data.numbers import leading_number, number_text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("72", "72"),
        (" 1,080 ", "1080"),
        ("$1,080.50 a day", "1080.5"),
        ("1000.0", "1000"),
        ("-3", "-3"),
        ("−3", "-3"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("- 5", "-5"),
        ("€ 7", "7"),
        (".5", "0.5"),
        ("007", "7"),
        ("-0.00", "0"),
        ("5.", "5"),
        ("50%", "50"),
        ("109,200,000", "109200000"),
        ("18 = 18", "18"),
        ("18 dollars.", "18"),
        ("1,234,567.50", "1234567.5"),
        ("72 clips in 2 months", "72"),
        ("5 (each)", "5"),
        ("5-year-old", "5"),
        ("7 tomatoes", "7"),
        ("3 and a half", "3"),
        (r"90^\circ", "90"),
        (r"15\mbox{ cm}^2", "15"),
        ("5 m² a day", "5"),
        (r"50\% more", "50"),
        ("Bob", None),
        ("about 7", None),
        ("", None),
        ("$", None),
        ("1/2", None),
        ("1,000/3", None),
        ("10:30", None),
        ("1e5", None),
        ("12x3", None),
        *(
            (text, None)
            for text in (
                "1 1/2",
                "3 3/4 cups",
                "3 / 4",
                "1⁄2",
                "1 ½",
                "12½",
                "4 : 5",
                r"1\frac{4}{5}",
                r"2 \sqrt{5}",
            )
        ),
        *(
            (text, None)
            for text in (
                "1e-3",
                "1E-05",
                "1.5e+3",
                "1e−3",
                "7.5 × 10^6",
                "7.5 * 10",
                r"7.5 \times 10",
                "2^3",
                "2^{10}",
                "2³",
            )
        ),
        *(
            (text, None)
            for text in (
                "148 (dollars); 296 (dollars)",
                "31; 21",
                "31 and 21",
                "72, and 5 more",
                "$5; $6",
                "5 (dollars), 6",
            )
        ),
        *(
            (text, None)
            for text in (
                "5 apples, 6 pears",
                "5 feet 3 inches",
                "2 lb. 4 oz",
                "5 hours and 30 minutes",
                "5 to 6",
                "5% or 6%",
                "1 & 2",
            )
        ),
        *(
            (text, None)
            for text in (
                "5-6",
                "5 – 6",
                "50%-60%",
                "$5-$6",
                "5 - 3 = 2",
                "18+2\\pi",
                "6 - 5i",
                "5x - 7y",
                "2k+2",
                r"1 \pm 2",
            )
        ),
        *(
            (text, None)
            for text in (r"3\pi", r"288 \pi", "3π", "2√5", r"10,\!080", r"1\,000", "4210_{5}", "5_000")
        ),
        *(
            (text, None)
            for text in (
                "3,5",
                "1, 2",
                "1,-2",
                "1,0000",
                "1,00,000",
                "1.234,56",
                "1 000",
                "1\u202f000",
                "1'000",
                "5.5.5",
            )
        ),
    ],
)
def test_by_hand(text: str, number: str | None) -> None:
    assert leading_number(text) == number


def test_a_long_text_takes_linear_time() -> None:
    for piece in ("-", " ", "(", "x", ", ", "1 "):
        start = time.process_time()
        leading_number(f"5{piece * 200_000}")
        assert time.process_time() - start < 2


@given(st.integers(-(10**15), 10**15), st.sampled_from(["{:,}", "{}", "${:,}", "{:,}.00", "0{}"]))
def test_every_spelling_of_a_whole_number_is_one_string(value: int, form: str) -> None:
    spelled = form.format(abs(value))
    assert leading_number(f"-{spelled}" if value < 0 else spelled) == str(value)


@given(st.text(max_size=20))
def test_a_number_is_its_own_plain_form(text: str) -> None:
    number = leading_number(text)
    assert number is None or leading_number(number) == number


def test_numbers_of_data_files_never_have_an_exponent() -> None:
    assert number_text(-9867630.0) == "-9867630"
    assert number_text(3244047.0999999996) == "3244047.0999999996"
    assert number_text(1e-7) == "0.0000001"
    assert number_text(1e22) == "1" + 22 * "0"
    assert number_text(39) == "39"
    assert number_text(float("nan")) is None
    assert number_text(float("inf")) is None
