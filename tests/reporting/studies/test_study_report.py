"""The report of a study as files."""

import json
from pathlib import Path

from kvdistill.records.study import PLAN
from kvdistill.reporting.report import report
from kvdistill.reporting.studies.study_report import write_study_report
from pico_study import plan, write_run


def test_a_report_has_its_sections_figures_and_numbers(tmp_path: Path) -> None:
    plan("e1", "rkv", seeds=(0, 1, 2)).write(tmp_path / PLAN)
    for seed in (0, 1):
        write_run(tmp_path / "e1" / f"seed{seed}", seed, 20 + seed)
        write_run(tmp_path / "rkv" / f"seed{seed}", seed, 96)
    page = write_study_report(tmp_path)
    text = page.with_suffix(".md").read_text(encoding="utf-8")
    assert "4 of 6 runs count. The second helps: supported." in text
    for title in ("What ran", "Results", "Which seeds learn, and when", "Training curves", "How it was made"):
        assert f"## {title}" in text
    assert {path.stem for path in (tmp_path / "figures").glob("*.svg")} >= {
        "study_accuracy",
        "study_curves",
        "study_claims",
    }
    assert "could not be drawn" not in text
    assert json.loads((tmp_path / "study.json").read_text())["rows"]["rkv"]["learned"] == [0, 1]
    assert report(tmp_path) == page  # `kvdistill report` knows studies too


def test_a_study_of_which_nothing_ran_has_a_report(tmp_path: Path) -> None:
    plan("e1", "rkv").write(tmp_path / PLAN)
    text = write_study_report(tmp_path).with_suffix(".md").read_text(encoding="utf-8")
    assert "0 of 4 runs count." in text
    assert "No complete and evaluated run yet." in text
