"""Claims as they are written in a study file."""

import pytest
from pydantic import ValidationError

from kvdistill.config.claims import ClaimSection, Comparison, Fall, comparison, fall


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


def test_falls_name_an_arm_and_its_control() -> None:
    assert fall("dual<dual_mean") == fall(" dual < dual_mean ") == Fall("dual", "dual_mean")
    with pytest.raises(ValidationError, match="'dual > mean' is no arm with its control: write A < B"):
        ClaimSection(title="a", falls=("dual > mean",))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "one of compare, falls and gain, and this one has none"),
        (
            {"compare": ("A > B",), "falls": ("A < B",)},
            "this one has compare and falls: make a claim of each",
        ),
        ({"gain": ("A > B",)}, "gain and target go together"),
        ({"compare": ("A > B",), "target": (0.03, 0.05)}, "gain and target go together"),
        ({"gain": ("A > B",), "target": (0.05, 0.03)}, r"target is \[0.05, 0.03\]: give two shares above 0"),
        ({"gain": ("nats: A > B",), "target": (0.03, 0.05)}, "a relative gain is A > B by accuracy or area"),
        (
            {"gain": ("A >= B - delta",), "target": (0.03, 0.05)},
            "gain compares A with B by area as non_infer",
        ),
    ],
)
def test_a_claim_has_one_form_with_what_belongs_to_it(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ClaimSection(title="a", **options)  # pyright: ignore
