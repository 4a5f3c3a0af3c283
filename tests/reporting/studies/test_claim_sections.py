"""Verdicts and the control are said as the numbers have them."""

from pathlib import Path
from typing import Any

import pytest

from kvdistill.reporting.page import Section
from kvdistill.reporting.studies.claim_sections import claims, control
from kvdistill.reporting.studies.experiments import discover
from kvdistill.reporting.studies.record import StudyRecord, summarise

ALL = {"E1": [0.4, 0.41], "E2": [0.6, 0.63], "E3": [0.5, 0.51], "E4": [0.6, 0.612], "E5": [0.4, 0.412]}


def study(folder: Path) -> StudyRecord:
    return summarise(discover(folder).studies[0], 0.02)


def text(section: Section) -> str:
    plain = "\n".join(block.plain(100) for block in section.blocks).replace("\N{NO-BREAK SPACE}", " ")
    assert max(map(len, plain.splitlines())) <= 100
    return " ".join(plain.split())


def test_a_claim_shows_its_numbers(tmp_path: Path, write_study: Any) -> None:
    keeps, adds, steady, how = claims(
        study(write_study(tmp_path / "s", ALL)), 0.02, tmp_path / "figures" / "study_"
    )
    assert keeps.title == "Claim 1. Compression keeps the supervision: INCONCLUSIVE"
    # Differences 0.2 and 0.22: standard error 0.01, t of one degree of freedom 12.706; p = 0.0303. Two seeds
    # could show 11.55 standard deviations of 1.414 points.
    assert "accuracy: E2 − E1 > 0 2 +21.0 [+8.3, +33.7] 0.03 – 2 ≥ +16.3 supported" in text(keeps)
    assert "detectable at 80 % power" in keeps.blocks[0].header  # pyright: ignore
    assert "after Holm over the three claims. It needs 4 more seeds: run E2, E4 with seeds 2–5." in text(
        keeps
    )
    assert adds.title.startswith("Claim 2. ") and "accuracy: E5 − E1 < δ 2 +0.1" in text(adds)
    assert "steps: E2 − E4 > 0 2 +0.0 [+0.0, +0.0] 1 – 100 – inconclusive" in text(
        steady
    ) and steady.title.endswith("INCONCLUSIVE")
    assert "is 2 points, and in steps one evaluation interval (100)" in text(how)
    assert (tmp_path / "figures" / "study_claims.svg").is_file()


def test_what_a_claim_waits_for_is_said(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path, {"E1": [0.4], "E2": [0.6], "E4": [0.6]}, {"E2": (1.0,)})
    keeps, adds, steady, _ = claims(study(tmp_path), 0.02, tmp_path / "figures" / "study_")
    assert text(keeps).endswith("It needs 7 more seeds: run E1, E2, E4 with seeds 1–7.")
    assert (
        "It waits for E5, of which no run counts. It needs 8 more seeds: run E1, E4 with seeds 1–7; E5 with "
        "seeds 0–7." in text(adds)
    )
    assert (
        "It waits for E3, of which no run counts. It waits for validation curves of E2: train with a "
        "data.validation" in text(steady)
    )
    assert "accuracy: E4 − E5 > 0 0 – – – – 2 – inconclusive" in text(adds)
    assert not (tmp_path / "figures").exists()


def test_verdicts_on_unlike_runs_say_so(tmp_path: Path, write_study: Any, write_run: Any) -> None:
    write_study(tmp_path, ALL)
    write_run(tmp_path / "E4" / "seed2", "E4", 0.6, training__lr=0.5)
    verdicts = claims(study(tmp_path), 0.02, tmp_path / "figures" / "study_")[:3]
    assert all(section.title.endswith(", resting on unlike runs") for section in verdicts)


@pytest.mark.parametrize(
    ("shuffled", "said"),
    [
        ([0.5, 0.512], "Shuffled targets help: E5 − E1 is +10.1 points [+8.8, +11.4] over 2 seeds. E4"),
        (
            [0.3, 0.312],
            "Shuffled targets harm: E5 − E1 is -9.9 points [-11.2, -8.6] over 2 seeds. A gain of 2 points "
            "is ruled out.",
        ),
        ([0.4, 0.41], "E5 − E1 is +0.0 points [+0.0, +0.0] over 2 seeds, without any spread. E4 beside"),
        (
            [0.399, 0.41],
            "no effect of shuffled targets: E5 − E1 is -0.1 points [-0.7, +0.6] over 2 seeds. A gain of 2 "
            "points is ruled out.",
        ),
        (
            [0.39, 0.43],
            "no effect of shuffled targets: E5 − E1 is +0.5 points [-18.6, +19.6] over 2 seeds. A gain of 2 "
            "points is not ruled",
        ),
        (
            [0.39],
            "E5 beside E1: Nothing can be said yet: they have 1 of the 2 common seeds that it takes at "
            "least.",
        ),
        ([], "It cannot be compared yet: no run of E5 counts."),
    ],
)
def test_the_control_is_said_as_it_is(
    tmp_path: Path, write_study: Any, shuffled: list[float], said: str
) -> None:
    write_study(tmp_path, ALL | {"E5": shuffled})
    assert said in text(control(study(tmp_path)))


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ([0.6, 0.61], "R-KV does better on its own targets: E4 − E5 is +19.9"),
        ([0.3, 0.31], "R-KV does worse on its own targets: E4 − E5 is -10.1"),
        ([0.39, 0.43], "These seeds do not tell the two apart: E4 − E5 is +0.4"),
    ],
)
def test_rkv_beside_the_control(tmp_path: Path, write_study: Any, own: list[float], said: str) -> None:
    write_study(tmp_path, ALL | {"E4": own})
    assert said in text(control(study(tmp_path)))
