"""The script of studies: what it asks of the command, alone and as a task of an array."""

import pytest

from pico_project import Project

SCRIPT = "run_study.sh"


def asked(clerk: Project, **settings: str) -> list[str]:
    done = clerk.run(SCRIPT, **settings)
    assert done.returncode == 0, done.stderr
    (words,) = clerk.calls()
    return words


def test_by_default_e1_to_e5_are_run_whole(clerk: Project) -> None:
    assert asked(clerk) == [
        *("-m", "kvdistill", "study", "run", "experiments/studies/e1_e5.toml"),
        *("--output", "outputs/e1_e5"),
    ]


def test_every_variable_reaches_its_option(clerk: Project) -> None:
    settings = {
        "STUDY": "experiments/studies/curves.toml",
        "OUTPUT": "my outputs",
        "JOBS": "2",
        "MINUTES": "90",
        "ARMS": "E1,slots_*",
        "SEEDS": "0-3",
        "TASKS": "4",
        "SLURM_ARRAY_TASK_ID": "3",
    }
    assert asked(clerk, **settings)[4:] == [
        *("experiments/studies/curves.toml", "--output", "my outputs", "--jobs", "2", "--minutes", "90"),
        *("--arms", "E1,slots_*", "--seeds", "0-3", "--array-task", "3/4"),
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"STUDY": "absent.toml"}, "STUDY is 'absent.toml', which is no file."),
        ({"JOBS": "0"}, "JOBS is 0: give 1 or more."),
        ({"TASKS": "4"}, "TASKS is 4 outside an array: submit with --array=0-3."),
    ],
)
def test_mistakes_in_the_settings_are_one_sentence(
    clerk: Project, settings: dict[str, str], said: str
) -> None:
    done = clerk.run(SCRIPT, **settings)
    assert done.returncode == 2
    assert said in done.stderr
