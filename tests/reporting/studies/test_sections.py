"""The tables of a study say what its record holds."""

from pathlib import Path
from typing import Any

from kvdistill.reporting.page import Section
from kvdistill.reporting.studies import sections as study_sections
from kvdistill.reporting.studies.experiments import discover
from kvdistill.reporting.studies.record import StudyRecord, summarise


def study(folder: Path) -> StudyRecord:
    return summarise(discover(folder).studies[0], 0.02)


def lines(section: Section) -> list[str]:
    """The section as plain text, blanks drawn together."""
    text = "\n".join(block.plain(100) for block in section.blocks).replace("\N{NO-BREAK SPACE}", " ")
    assert max(map(len, text.splitlines())) <= 100
    return [" ".join(line.split()) for line in text.splitlines()]


def test_what_ran_names_what_did_not(tmp_path: Path, write_study: Any, write_run: Any) -> None:
    write_study(tmp_path, {"E1": [0.4, 0.5, 0.6]})
    write_run(tmp_path / "E4" / "seed7", "E4", None)
    said = lines(study_sections.ran(study(tmp_path)))
    assert "E1 baseline: latents with CE and CODI only 0–2 –" in said
    assert "E4 R-KV not run 7" in said and "E5 shuffled KV (negative control) not run –" in said
    assert (
        "E4/seed7 (E4) is unfinished, running or cut off, at step 400 of about 400: it does not count."
        in said
    )


def test_accuracy_has_its_interval_and_every_seed(tmp_path: Path, write_study: Any) -> None:
    # E4: mean 0.6, sd 0.1, t 12.706: half an interval is 0.8985, over two seeds each.
    write_study(tmp_path, {"E1": [0.4, 0.5], "E4": [0.6, 0.7], "direct": [0.2]})
    said = lines(study_sections.accuracy(study(tmp_path), tmp_path / "figures" / "study_"))
    assert "E1 2 45.0 % 0.0–100.0 % – – 7.5 400" in said
    assert "E4 2 65.0 % 1.5–100.0 % +20.0 [+20.0, +20.0] 7.5 400" in said
    assert "direct 1 20.0 % – -20.0 – 7.5 400" in said
    assert "accuracy in % seed 0 seed 1" in said and "E4 60.0 70.0" in said and "direct 20.0 –" in said
    assert (tmp_path / "figures" / "study_accuracy.svg").is_file()


def test_many_seeds_take_several_tables(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path, {"E1": [0.4] * 12})
    said = lines(study_sections.accuracy(study(tmp_path), tmp_path / "figures" / "study_"))
    assert (
        "accuracy in % seed 10 seed 11" in said
        and sum(line.startswith("accuracy in %") for line in said) == 2
    )


def test_weights_are_the_raw_ones(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path, {"E1": [0.4, 0.5], "E2": [0.6, 0.7]})
    said = lines(study_sections.losses(study(tmp_path)))
    assert "E1 0 – 0.5 0.25 – 0.125" in said
    assert "E2 2 (2–2.01) 0.125 0.5 0.25 0.2 0.125" in said


def test_curves_have_their_measures_and_the_spread_its_interval(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path, {"E1": [0.4, 0.6], "E4": [0.8, 0.8]}, {"E4": (0.25, 0.125, 0.5, 1.0)})
    said = lines(study_sections.steadiness(study(tmp_path), tmp_path / "figures" / "study_"))
    # Of 0.2, 0.1, 0.4, 0.8: trapezoids (0.15 + 0.25 + 0.6) / 3, and one fall by 0.1.
    assert "E4 33.3 % 33.3–33.3 % 10.0 [10.0, 10.0] 0.0 [0.0, 0.0]" in said
    # sd 14.142 points; chi-squared of one degree of freedom: 5.0239 and 0.000982069.
    assert any(line.startswith("E1 31.2 %") and line.endswith("14.1 [6.3, 451.3]") for line in said)
    assert any("it is tested from 20 common seeds on (there are fewer)" in line for line in [" ".join(said)])
    assert (tmp_path / "figures" / "study_curves.svg").is_file()


def test_warnings_are_listed_and_their_absence_is_said(
    tmp_path: Path, write_study: Any, write_run: Any
) -> None:
    write_study(tmp_path, {"E1": [0.4], "E4": [0.6]})
    assert lines(study_sections.warnings(study(tmp_path))) == [
        "None: the runs differ in target and KV loss alone."
    ]
    write_run(tmp_path / "E2" / "seed0", "E2", 0.6, training__lr=0.5)
    said = lines(study_sections.warnings(study(tmp_path)))
    assert (
        said[0].startswith("Verdicts rest on unlike runs.")
        and "training.lr: 0.001 in E1, E4; 0.5 in E2." in said
    )


def test_how_it_was_made(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path, {"E1": [0.4, 0.5], "E4": [0.6]})
    said = lines(study_sections.made(study(tmp_path), "python scripts/analyze_results.py"))
    for line in (
        "commit 0123abc",
        "versions kvdistill 0.1.0, python 3.11.7",
        "hours of training 0.075",
        "E1: kvdistill train --config E1.toml --training.seed 0",
        "E4: kvdistill train --config E4.toml --training.seed 0",
        "python scripts/analyze_results.py",
    ):
        assert line in said, line


def test_a_study_without_a_finished_run_has_its_sections(tmp_path: Path, write_run: Any) -> None:
    write_run(tmp_path / "E1" / "seed0", "E1", None)
    none, figures = study(tmp_path), tmp_path / "figures" / "study_"
    assert lines(study_sections.accuracy(none, figures)) == ["No finished and evaluated run yet."]
    assert lines(study_sections.losses(none)) == ["None yet."]
    assert lines(study_sections.steadiness(none, figures))[0].startswith("Area: ")
    assert "started –" in lines(study_sections.made(none, "c")) and not figures.parent.exists()
