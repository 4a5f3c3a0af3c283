"""Pilots: what is accepted, what is rejected, and why."""

from pathlib import Path

import pytest

from kvdistill.commands.study import pilot
from kvdistill.commands.study.lanes import Outcome
from kvdistill.commands.study.pilot import run_pilot
from kvdistill.records.pilot import PilotRecord
from pico_study import TOML, study_file, write_run

ARMS = '[arms.cot]\ntraining.task = "cot"\n[arms.direct]\ntraining.task = "direct"\n[pilot]\nseeds = 2\n'


def tried(folder: Path, monkeypatch: pytest.MonkeyPatch, e1: tuple[int, int], direct: int = 20) -> int:
    """The exit code of a pilot whose runs are pretended; ``step_end`` gets everything right."""
    correct = {"cot": (100, 98), "direct": (direct, direct), "e1": e1, "step_end": (100, 100)}

    def pretend(jobs: object, *rest: object) -> Outcome:
        for arm, found in correct.items():
            for seed, right in enumerate(found):
                task = arm if arm in ("cot", "direct") else "latent"
                write_run(folder / "out" / arm / f"seed{seed}", seed, right, task=task)
        return Outcome()

    monkeypatch.setattr(pilot, "run_jobs", pretend)
    monkeypatch.setattr(pilot, "unfinished", lambda jobs: [])
    return run_pilot(str(study_file(folder, TOML + ARMS)), str(folder / "out"), None)


def test_a_candidate_is_accepted_with_the_figure_of_each_criterion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tried(tmp_path, monkeypatch, e1=(60, 62)) == 0
    record = PilotRecord.read(tmp_path / "out" / "pilot.json")
    figures = {each.name: each.value for each in record.criteria}
    assert record.accepted
    assert figures["CoT, accuracy"] == pytest.approx(0.99)
    assert figures["E1, accuracy"] == pytest.approx(0.61)
    assert figures["largest SD over seeds"] == pytest.approx(0.02 / 2**0.5)
    assert figures["minutes a run"] == 1.5
    assert figures["seeds that warm up"] == 2
    printed = capsys.readouterr().out
    assert "ACCEPTED" in printed
    assert "E1, accuracy" in printed


def test_a_candidate_is_rejected_with_every_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tried(tmp_path, monkeypatch, e1=(15, 72), direct=45) == 1
    record = PilotRecord.read(tmp_path / "out" / "pilot.json")
    assert not record.accepted
    assert record.reasons[0] == "direct, accuracy is 0.45, not at most 0.4"
    # 0.435 lies within .4 to .8, but 15 and 72 are 40 points of SD; log-rank with two seeds each: p = .083.
    assert len(record.reasons) == 2
    assert record.reasons[1].startswith(
        "seeds do not tell E1 and step_end apart: largest SD over seeds is 0.403"
    )
    assert "REJECTED: direct, accuracy is 0.45" in capsys.readouterr().out


def test_a_file_without_the_four_arms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no arm 'cot'"):
        run_pilot(str(study_file(tmp_path)), str(tmp_path / "out"), None)
