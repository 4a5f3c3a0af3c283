"""The sections say what was measured, and are left out where nothing was."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pico_reports
from kvdistill.records.schema import DepthCount
from kvdistill.reporting.blocks import Words
from kvdistill.reporting.page import Section
from kvdistill.reporting.studies.experiments import discover
from kvdistill.reporting.studies.learning_sections import depths, learning, log_probability
from kvdistill.reporting.studies.record import StudyRecord, summarise


def study(folder: Path) -> StudyRecord:
    return summarise(discover(folder).studies[0], 0.02)


def cells(sections: list[Section]) -> list[list[str]]:
    (section,) = sections
    (table,) = pico_reports.rows(section)
    return table


def said(sections: list[Section]) -> str:
    text = " ".join(block.text for block in sections[0].blocks if isinstance(block, Words))
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_log_probabilities_by_hand(tmp_path: Path, write_run: Any) -> None:
    for seed, (base, own) in enumerate(((-2.0, -0.5), (-1.0, -0.5))):
        write_run(tmp_path / "E1" / f"seed{seed}", "E1", 0.4, measured={"nats": base})
        write_run(tmp_path / "E4" / f"seed{seed}", "E4", 0.6, measured={"nats": own})
    write_run(tmp_path / "CoT" / "seed0", "CoT", 0.9, measured={"nats": -0.125})
    found = log_probability(study(tmp_path))
    # Half of the interval is 12.706 · 0.5: it is cut at 0, the logarithm of certainty.
    assert cells(found) == [
        ["E1", "2", "-1.5", "[-7.85, 0]", "–", "–"],
        ["E4", "2", "-0.5", "[-0.5, -0.5]", "+1", "[-5.35, +7.35]"],
        ["CoT", "1", "-0.125", "–", "+1.88", "–"],
    ]
    assert "behind the gold chain" in said(found)


def test_depths_by_hand(tmp_path: Path, write_run: Any) -> None:
    for seed, right in enumerate((3, 4)):
        counts = {1: DepthCount(num=4, correct=4), 2: DepthCount(num=4, correct=right)}
        write_run(tmp_path / "E1" / f"seed{seed}", "E1", 0.5, measured={"by_depth": counts})
    write_run(tmp_path / "E4" / "seed0", "E4", 0.5, measured={"by_depth": {2: DepthCount(num=4, correct=1)}})
    assert cells(depths(study(tmp_path))) == [
        ["E1", "100.0 ± 0.0", "87.5 ± 158.8"],  # 12.706 standard errors of 12.5 points
        ["E4", "–", "25.0"],
    ]


def test_how_often_and_how_soon_by_hand(tmp_path: Path, write_study: Any) -> None:
    accuracies = {"E1": [1.0, 0.5, 0.5, 0.5], "E2": [0.95] * 4, "E4": [1.0] * 4}
    rises = {"E2": (1.0,), "E4": (0.2, 1.0, 1.0, 1.0)}
    found = learning(study(write_study(tmp_path / "a", accuracies, rises)))
    assert cells(found) == [
        ["E1", "1 of 4", "0.6–80.6 %", "–", "1 of 4", "later", "–"],
        ["E2", "4 of 4", "39.8–100.0 %", "0.14", "–", "–", "–"],
        ["E4", "4 of 4", "39.8–100.0 %", "0.14", "4 of 4", "200", "0.0082"],
    ]
    assert said(found).startswith("The goal is 90.0 % right. Learned:")
    with_cot = study(write_study(tmp_path / "b", accuracies | {"CoT": [0.8]}))
    assert said(learning(with_cot)).startswith(
        "The goal is 72.0 % right, 90 % of the mean test accuracy of the chain of thought."
    )


def test_what_was_not_measured_has_no_section(tmp_path: Path, write_study: Any, write_run: Any) -> None:
    old = study(write_study(tmp_path / "a", {"E1": [0.4, 0.5]}))
    assert log_probability(old) == depths(old) == []
    assert learning(replace(old, goal=None, learning=None)) == []
    write_run(tmp_path / "b" / "E1" / "seed0", "E1", None)
    assert learning(study(tmp_path / "b")) == []
