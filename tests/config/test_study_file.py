"""Study files: what they mean, and what is said where they are wrong."""

import re
from pathlib import Path

import pytest

from kvdistill.compress import RKV
from kvdistill.config.study_file import read_study
from pico_study import TOML, study_file

SHIPPED = Path(__file__).resolve().parents[2] / "experiments" / "studies"
GRID = """
[grids.lambda]
label = "λ"
option = "target.method.importance_weight"
values = [0.0, 0.5]
[grids.lambda.arms.shared]
label = "shared"
target.method = {kind = "rkv", selection = "shared"}
"""


def test_stages_start_from_each_other_and_arms_from_the_last(tmp_path: Path) -> None:
    study = read_study(study_file(tmp_path))
    assert {name: stage.start for name, stage in study.stages.items()} == {
        "terse": None,
        "e1": "terse",
        "step_end": "terse",
    }
    assert list(study.arms) == ["e1", "step_end"]
    assert study.arm("E1") == "e1"
    assert study.chosen("step*,E1") == ["step_end", "e1"]
    plan = study.plan("now")
    assert plan.arms["e1"].label == "no KV loss"
    assert [(c.first, c.second, c.kind, c.measure) for c in plan.claims[0].comparisons] == [
        ("step_end", "e1", "superiority", "accuracy")
    ]


def test_warm_stages_may_be_those_of_another_file(tmp_path: Path) -> None:
    head, stage, arms = re.split(r"(?=^\[\[warm)|(?=^\[arms\.e1)", TOML, flags=re.MULTILINE)
    (tmp_path / "warm.toml").write_text(stage)
    apart = read_study(study_file(tmp_path, f'warm = "warm.toml"\n{head}{arms}'))
    assert apart.stages == read_study(study_file(tmp_path)).stages
    (tmp_path / "warm.toml").write_text("")
    with pytest.raises(ValueError, match=r"pico.toml: warm is 'warm.toml', and that file has no \[\[warm"):
        read_study(study_file(tmp_path, f'warm = "warm.toml"\n{head}{arms}'))


def test_an_arm_may_start_from_an_earlier_arm_or_from_nothing(tmp_path: Path) -> None:
    text = (
        TOML + '[arms.again]\nstart = "step_end"\nseeds = [1]\n[arms.alone]\nstart = "none"\npriority = 2\n'
    )
    study = read_study(study_file(tmp_path, text))
    assert (study.stages["again"].start, study.stages["again"].seeds) == ("step_end", (1,))
    assert (study.stages["alone"].start, study.stages["alone"].priority) == (None, 2)


TEACHERS = """
[arms.big]
start = "none"
training.task = "cot"
require_accuracy = 0.9
[arms.taught]
teachers.big = {arm = "big"}
"""


def test_the_run_of_an_arm_may_be_a_teacher_of_another(tmp_path: Path) -> None:
    study = read_study(study_file(tmp_path, TOML + TEACHERS))
    stage = study.stages["taught"]
    assert stage.teacher_arms == {"big": "big"}
    config = stage.config(tmp_path / "run", tmp_path / "start", 0, {"big": tmp_path / "teacher"})
    assert config.teachers["big"].name == str(tmp_path / "teacher")  # pyright: ignore
    assert study.stages["big"].require_accuracy == 0.9
    with pytest.raises(ValueError, match="arm taught: a teacher's arm is 'bigg', which .* mean 'big'"):
        read_study(study_file(tmp_path, TOML + TEACHERS.replace('arm = "big"', 'arm = "bigg"')))


def test_a_grid_makes_an_arm_of_each_value(tmp_path: Path) -> None:
    study = read_study(study_file(tmp_path, TOML + GRID))
    assert list(study.arms)[2:] == ["lambda_shared_0", "lambda_shared_0.5"]
    method = study.stages["lambda_shared_0.5"].config(Path("a"), Path("b"), 0).target.method
    assert isinstance(method, RKV)
    assert method.importance_weight == 0.5
    point = study.plan("now").arms["lambda_shared_0.5"]
    assert (point.label, point.grid, point.line, point.value) == ("shared, λ = 0.5", "lambda", "shared", 0.5)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("step_end > E1", "stepend > E1", "pico.toml: there is no arm 'stepend'. Did you mean 'step_end'?"),
        (
            "kv_weight = 0.0",
            "kv_wieght = 0.0",
            "pico.toml, arm e1: there is no option loss.kv_wieght. Did you",
        ),
        (
            "seeds = [0, 1]",
            "sedes = [0, 1]",
            "pico.toml: there is no option study.sedes. Did you mean 'seeds'?",
        ),
        ('"step_end"\n', '"stepend"\n', "arm step_end: target.method has no kind 'stepend'"),
        ("max_steps = 2", 'max_steps = "2"', "arm terse: training.max_steps: should be an integer"),
        ('experiment = "E1"', 'start = "ters"', "start is 'ters', which is no stage. Did you mean 'terse'?"),
        ("compare =", 'measure = "acuracy"\ncompare =', "claims.0.measure: should be 'accuracy'"),
        ("step_end > E1", "aera: step_end > E1", "there is no measure 'aera'. Did you mean 'area'?"),
        ("[base]\n", '[base]\nfile = "absent.toml"\n', "There is no configuration file"),
        ("[arms.step_end]", "[arms.terse]", "terse names two stages or arms"),
        ('"The KV loss helps"', '""', "claims.0.title: should not be empty"),
    ],
)
def test_mistakes_are_named_with_file_place_and_nearest_name(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in TOML
    with pytest.raises(ValueError) as caught:
        read_study(study_file(tmp_path, TOML.replace(old, new)))
    assert said in str(caught.value)
    assert "pico.toml" in str(caught.value)


def test_a_missing_file_is_said_with_where_there_are_some(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no study file .* experiments/studies"):
        read_study(tmp_path / "absent.toml")


def test_the_shipped_studies_are_valid_and_e1_to_e5_are_defined_once() -> None:
    studies = {path.stem: read_study(path) for path in sorted(SHIPPED.glob("*.toml"))}
    assert {"e1_e5", "curves", "pilot_chain"} <= set(studies)
    five = studies["e1_e5"]
    config = {name: stage.config(Path("a"), Path("b"), 0) for name, stage in five.arms.items()}
    assert [config[five.arm(f"E{number}")].target.method.kind for number in (2, 3, 4)] == [
        "full",
        "right_crop",
        "rkv",
    ]
    assert config["shuffled"].target.control.kind == "shuffled"
    assert config["e1"].loss.kv_weight == 0.0
    compared = [name for name in five.arms if config[name].training.task == "latent"]
    weights = {config[name].loss.kv_weight for name in compared if not name.startswith("e1")}
    assert weights == {"auto"}
    assert {config[name].training.max_steps for name in compared} == {250}
    assert len(five.plan("").claims) == 3
