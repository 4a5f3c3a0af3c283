"""Claims of the three forms as a plan holds them."""

from pathlib import Path

import pytest

from kvdistill.config.claims import ClaimSection
from kvdistill.config.study_claims import claim_plan
from kvdistill.config.study_file import read_study
from kvdistill.records.study import ClaimPlan, ComparisonPlan, FallPlan, GainPlan
from pico_study import TOML, study_file

PATH = Path("a.toml")


def arm(name: str) -> str:
    return {"E1": "e1"}.get(name, name)


def test_each_form_has_its_arms_resolved() -> None:
    compared = ClaimSection(title="a", compare=("b > E1", "area: b > E1"), delta=0.1)
    plans = [
        ComparisonPlan(first="b", second="e1", kind="superiority", measure="accuracy", delta=0.1),
        ComparisonPlan(first="b", second="e1", kind="superiority", measure="area", delta=None),
    ]
    assert claim_plan(compared, "accuracy", arm, PATH) == ClaimPlan(title="a", comparisons=plans)
    fallen = ClaimSection(title="a", falls=("b < E1",), delta=0.1)
    falls = [FallPlan(arm="b", control="e1")]
    expected = ClaimPlan(title="a", comparisons=[], falls=falls, delta=0.1)
    assert claim_plan(fallen, "accuracy", arm, PATH) == expected
    gained = ClaimSection(title="a", gain=("b > E1", "accuracy: b > c"), target=(0.03, 0.05))
    gains = [
        GainPlan(first="b", second="e1", measure="area"),
        GainPlan(first="b", second="c", measure="accuracy"),
    ]
    expected = ClaimPlan(title="a", comparisons=[], gains=gains, target=[0.03, 0.05])
    assert claim_plan(gained, "accuracy", arm, PATH) == expected


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ('falls = ["step_end < stepend"]', "pico.toml: there is no arm 'stepend'. Did you mean 'step_end'?"),
        ('gain = ["step_end > E1"]', "pico.toml: claims.0: gain and target go together"),
        ("fals = []", "there is no option claims.0.fals"),
    ],
)
def test_mistakes_in_a_study_file_are_named(tmp_path: Path, claim: str, said: str) -> None:
    text = TOML.replace('compare = ["step_end > E1"]', claim)
    with pytest.raises(ValueError) as caught:
        read_study(study_file(tmp_path, text))
    assert said in str(caught.value)
