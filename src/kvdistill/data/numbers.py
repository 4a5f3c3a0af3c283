"""Normalize numbers in answers: ``"$1,080.50 a day"`` to ``"1080.5"``."""

import re
from decimal import Decimal

_SPACE = r"(?:\s|\\[!,;: ])*+"  # also LaTeX's
_DIGIT = r"[-+({]*+[$€£¥]?[0-9]"
_UNIT = r"(?:\s*(?:\([^()]*+\)|\\?%|[^\W\d_]++))?"  # (dollars), %, dollars
# What follows a number that is not a single plain number. Possessive quantifiers keep "1,000/3" from being
# read as "1", and long texts from taking quadratic time.
_GOES_ON = (
    r"\w*[0-9]",  # 12x3
    r"[.'’][0-9]",  # 5.5.5, 1'000
    r"[⁰¹²³⁴-⁹]",
    r"_\{?[0-9]",  # 101_{2}
    r"\s*[¼½¾⅐-⅞↉π√∞±]",
    r"\s*e[-+][0-9]",
    r"\s*\\(?:[dt]?frac|sqrt|times|cdot|pi|pm|mp|infty)(?![a-z])",
    # 1 000, 1 1/2, 3,5, 4 : 5, 10^{3}, 10,\!080
    rf"{_SPACE}(?:[,:/÷\u2044\u2215^*×·x]++{_SPACE}{_DIGIT}|[0-9])",
    r"\s*[^\W\d_]++\.?\s+[0-9]",  # 5 feet 3 inches
    rf"{_UNIT}\s*[-+±~–—]++\s*+{_DIGIT}",  # 5-6, 5 + 3, 5x - 7y, 50%–60%
    # 31; 21, 148 (dollars), 296 (dollars), 5 hours and 30 minutes
    rf"{_UNIT}\s*(?:[;,&]|,?\s*\b(?:and|or|to)\b)\s*{_DIGIT}",
)
_NUMBER = re.compile(
    r"(?P<minus>-?)\s*[$€£¥]?\s*(?P<minus2>-?)"
    r"(?P<integer>[0-9]{1,3}(?:,[0-9]{3})++|[0-9]++|(?=\.[0-9]))(?:\.(?P<part>[0-9]++))?+"
    f"(?!{'|'.join(_GOES_ON)})",
    re.IGNORECASE,
)


def leading_number(text: str) -> str | None:
    """The number that a text begins with, as plain digits: ``"$1,080.50 a day"`` gives ``"1080.5"``.

    Commas before groups of three digits, one currency sign, leading and trailing zeros are removed; words
    that follow are ignored. Fractions, ratios, times, lists (``31; 21``, ``148 (dollars); 296 (dollars)``),
    ranges, sums, products (``3\\pi``), powers, numbers with an exponent and digits grouped in any other way
    are not accepted, since their first digits alone would be a wrong number.

    Returns:
        Digits with an optional minus and decimal part, the same string for the same number; None where the
        text does not begin with a number.

    Source: https://arxiv.org/abs/2110.14168, section 2 (final answer after ``####``, commas dropped).
    Differs: decimals are normalized and currency signs dropped, which the paper's own answers do not need.
    """
    found = _NUMBER.match(text.strip().replace("−", "-"))
    if found is None:
        return None
    integer = found["integer"].replace(",", "").lstrip("0") or "0"
    part = (found["part"] or "").rstrip("0")
    digits = integer
    if part:
        digits = f"{integer}.{part}"
    negative = bool(found["minus"]) != bool(found["minus2"])
    if negative and digits != "0":
        return f"-{digits}"
    return digits


def number_text(value: int | float) -> str | None:
    """A JSON number as plain digits, never with an exponent; None where it is not finite."""
    return leading_number(format(Decimal(repr(value)), "f"))
