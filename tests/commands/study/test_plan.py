"""The order of a study's runs, their folders and states, and the shares of an array."""

from pathlib import Path

import pytest

from kvdistill.commands.study import plan
from kvdistill.commands.study.plan import Share, jobs_of, seeds_of, share_of
from kvdistill.config.study_file import read_study
from pico_study import TOML, study_file

LATER = '[arms.late]\npriority = 2\n[arms.one]\nseeds = [1, 5]\nstart = "none"\n'


def test_priority_comes_first_then_seeds_and_warm_starts_where_they_are_needed(tmp_path: Path) -> None:
    study = read_study(study_file(tmp_path, TOML + LATER))
    arms = study.chosen(None)
    jobs = jobs_of(study, tmp_path / "out", arms, seeds_of(study, arms, None))
    assert [job.name for job in jobs] == [
        "warm/terse/seed0",
        "e1/seed0",
        "step_end/seed0",
        "warm/terse/seed1",
        "e1/seed1",
        "step_end/seed1",
        "one/seed1",
        "one/seed5",
        "late/seed0",
        "late/seed1",
    ]
    assert jobs[1].needs is jobs[0]
    assert jobs[6].needs is None
    assert jobs[9].needs is jobs[3]


def test_a_teacher_is_the_run_of_the_same_seed_and_comes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = '[arms.big]\nstart = "none"\n[arms.taught]\nteachers.big = {arm = "big"}\n'
    study = read_study(study_file(tmp_path, TOML + taught))
    jobs = jobs_of(study, tmp_path / "out", ["taught"], [0, 1])
    assert [job.name for job in jobs] == [
        "warm/terse/seed0",
        "big/seed0",
        "taught/seed0",
        "warm/terse/seed1",
        "big/seed1",
        "taught/seed1",
    ]
    assert jobs[2].before == (jobs[0], jobs[1])
    assert jobs[5].teachers["big"] is jobs[4]
    monkeypatch.setattr(plan, "newest_checkpoint", lambda folder: folder / "checkpoint-ep1")
    assert jobs[2].config().teachers["big"].name.endswith("big/seed0/checkpoint-ep1")  # pyright: ignore


def test_arms_and_seeds_that_are_asked_for(tmp_path: Path) -> None:
    study = read_study(study_file(tmp_path))
    arms = study.chosen("E1")
    assert [job.name for job in jobs_of(study, tmp_path, arms, seeds_of(study, arms, [1]))] == [
        "warm/terse/seed1",
        "e1/seed1",
    ]
    with pytest.raises(ValueError, match="--seeds: 9 is no seed of"):
        seeds_of(study, arms, [1, 9])
    with pytest.raises(ValueError, match="no arm 'stepend'. Did you mean 'step_end'"):
        study.chosen("stepend")


def test_a_run_is_complete_only_with_its_last_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = read_study(study_file(tmp_path))
    warm, arm = jobs_of(study, tmp_path / "out", ["e1"], [0])
    assert (warm.folder, warm.state) == (Path("out/warm/terse/seed0"), "new")
    (warm.folder / "checkpoint-ep1").mkdir(parents=True)
    (warm.folder / "run.json").write_text("{}")
    assert warm.state == "interrupted"
    (warm.folder / "TRAINING_COMPLETED.txt").write_text("")
    assert warm.state == "complete"
    assert arm.steps == 3
    with pytest.raises(ValueError, match="holds no checkpoint for e1/seed0: delete that folder"):
        arm.config()


def test_warm_starts_of_another_study_keep_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first" / "warm").mkdir(parents=True)
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "warm").symlink_to("../first/warm")
    warm, arm = jobs_of(read_study(study_file(tmp_path)), tmp_path / "second", ["e1"], [0])
    assert warm.folder == Path("first/warm/terse/seed0")
    assert arm.folder == Path("second/e1/seed0")


def test_an_array_task_is_a_share_of_the_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    assert share_of(None, 8) is None
    assert share_of("1/4", 8) == Share(1, 4)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    assert share_of(None, 8) == Share(5, 8)
    assert share_of("0/2", 8) == Share(0, 2)
    for text in ("4/4", "1", "a/4", "-1/4"):
        with pytest.raises(ValueError, match="write i/n, such as 0/8"):
            share_of(text, 8)
    with pytest.raises(ValueError, match=r"give at most 2 tasks \(sbatch --array=0-1\)"):
        share_of("0/4", 2)
