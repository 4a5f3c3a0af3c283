"""Flags for several teachers: short names, one section for each, and what is refused."""

from pathlib import Path

import pytest

from kvdistill.config import RunConfig, from_flags
from kvdistill.config.teacher_flags import separate_teachers, short_names, teacher_sections
from kvdistill.config.teachers import TeacherSection
from kvdistill.fuse.methods import Learnable, Similarity
from kvdistill.fuse.routers import GateRouter
from kvdistill.target.methods import Lift, Lower, Same

DATA = ("--student_model", "m", "--train_file", "x.jsonl")
TWO = ("--teacher_models", "hub/A", "folder/b-2/")


def several(*words: str) -> RunConfig:
    return from_flags(words, "train_multi_teacher_kv.py", "Train.", multi_teacher=True)


def refused(*words: str, multi_teacher: bool = True) -> str:
    with pytest.raises(ValueError) as caught:
        from_flags(words, "the_script.py", "Train.", multi_teacher=multi_teacher)
    return str(caught.value).removeprefix("the command line: ")


def teachers(config: RunConfig) -> dict[str, TeacherSection]:
    assert all(isinstance(section, TeacherSection) for section in config.teachers.values())
    return {name: section for name, section in config.teachers.items() if isinstance(section, TeacherSection)}


# Short names.


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["Qwen/Qwen2.5-7B-Instruct", "gpt2"], ["qwen2-5-7b-instruct", "gpt2"]),
        (["a/Model", "b/model", "c/MODEL/"], ["model", "model-2", "model-3"]),
        (["x", "x-2", "x"], ["x", "x-2", "x-3"]),
        (["models/7b", "a b/ü", "."], ["t7b", "teacher", "teacher-2"]),
        (["m" * 50, "m" * 60], ["m" * 40, "m" * 38 + "-2"]),
        (["~/runs/cot/checkpoint-ep2", "my_model"], ["checkpoint-ep2", "my_model"]),
    ],
)
def test_short_names_come_from_the_last_part_of_a_path(paths: list[str], names: list[str]) -> None:
    assert short_names(paths) == names
    config = several("--teacher_models", *paths)
    assert list(config.teachers) == names, "the configuration takes every short name"


# What the flags reach.


def test_each_teacher_gets_a_section_with_its_settings() -> None:
    config = several(
        *(*TWO, "--teacher_weights", ".25", "3"),
        *(
            "--rope_scaling_method",
            "yarn",
            "--rope_scaling_factor",
            "2",
            "--layer_mapping_strategy",
            "uniform",
        ),
    )
    found = teachers(config)
    assert {name: section.name for name, section in found.items()} == {"a": "hub/A", "b-2": "folder/b-2/"}
    assert [section.weight for section in found.values()] == [0.25, 3]
    assert [section.rope_scaling for section in found.values()] == [{"rope_type": "yarn", "factor": 2.0}] * 2
    assert [section.layers.kind for section in found.values()] == ["uniform"] * 2
    assert config.teacher is None


def test_flags_of_the_fusion() -> None:
    table = ("--competence", "table.jsonl")
    found = several(*DATA, *TWO, "--fusion_method", "similarity", *table).fusion
    assert found == Similarity(competence="table.jsonl")
    found = several(*DATA, *TWO, "--router_type", "gate", "--entropy_target", "diverse", *table).fusion
    assert found == Learnable(competence="table.jsonl", router=GateRouter(), entropy="diverse")
    found = several(
        *DATA, *TWO, "--fusion_method", "learnable", "--entropy_reg_strength", "0.5", *table
    ).fusion
    assert found == Learnable(competence="table.jsonl", entropy_strength=0.5)
    weights = several(*DATA, *TWO, "--fixed_weights", "1", "3").teachers
    assert [section.weight for section in weights.values()] == [1, 3]


def test_a_misspelled_entropy_gets_the_nearest_name_and_no_table_is_refused() -> None:
    words = (*DATA, *TWO, "--fusion_method", "learnable")
    assert "Did you mean 'diverse'?" in refused(*words, "--entropy_target", "divers", "--competence", "t")
    assert "kvdistill competence" in refused(*words)


def test_flags_of_a_router_are_refused_beside_another_fusion() -> None:
    words = (*DATA, *TWO, "--fusion_method", "similarity", "--competence", "t")
    assert "--router_type does not go with --fusion_method of the kind 'similarity'" in refused(
        *words, "--router_type", "gate"
    )


def test_two_teachers_are_fused_unless_a_bridge_is_named() -> None:
    assert several(*TWO).bridge == Lower()
    assert several(*TWO, "--teacher_weights", "1", "0").bridge == Lower(), "a weight of 0 changes no bridge"
    assert several(*TWO, "--bridge.kind", "lift").bridge == Lift()
    assert several("--teacher_models", "hub/A").bridge is None
    assert isinstance(several("--teacher_models", "hub/A").bridge_method, Lift)
    one = from_flags(["--teacher_models", "hub/A"], "train_with_kv.py", "")
    assert (list(one.teachers), one.bridge) == (["a"], None)
    assert isinstance(from_flags([], "train_with_kv.py", "").bridge_method, Same)


def test_options_change_what_flags_set_and_name_further_teachers() -> None:
    more = ("--teachers.a.dtype", "bfloat16", "--teachers.c.kind", "live", "--teachers.c.name", "hub/C")
    config = several(*TWO, "--teacher_weights", "1", "2", "3", *more, "--teachers.a.weight", "7")
    assert [section.weight for section in teachers(config).values()] == [7, 2, 3]
    assert teachers(config)["a"].dtype == "bfloat16"


def test_flags_change_the_teachers_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    file.write_text(
        '[data.train]\nkind = "file"\npath = "x.jsonl"\n[model]\nname = "m"\n[teachers.own]\nkind = "own"\n'
        '[teachers.big]\nkind = "live"\nname = "b"\n'
        '[teachers.big.rope_scaling]\nrope_type = "linear"\nfactor = 2\n'
        '[bridge]\nkind = "lift"\n'
    )
    config = several("--config", str(file), "--teacher_weights", "1", "3", "--rope_scaling_factor", "4")
    assert [section.weight for section in config.teachers.values()] == [1, 3]
    big = config.teachers["big"]
    assert isinstance(big, TeacherSection)
    assert big.rope_scaling == {"rope_type": "linear", "factor": 4.0}
    assert config.bridge == Lift()
    assert "--teacher_models and the file after --config both name teachers" in refused(
        "--config", str(file), *TWO
    )


def test_a_bridge_in_the_file_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    two = "".join(f'[teachers.{name}]\nkind = "live"\nname = "{name}"\n' for name in ("a", "b"))
    file.write_text(two)
    assert several("--config", str(file), *DATA).bridge == Lower()
    file.write_text(two + '[bridge]\nkind = "lift"\n')
    assert several("--config", str(file), *DATA).bridge == Lift()


def test_sections_of_teachers_by_their_dotted_names() -> None:
    tree = {"teacher": {"name": "x"}, "teachers": {"own": {"kind": "own"}, "b": {"kind": "live"}}}
    assert list(teacher_sections(tree)) == ["teacher", "teachers.own", "teachers.b"]
    assert list(separate_teachers(tree)) == ["teacher", "teachers.b"]
    assert teacher_sections({}) == {}


# What is refused.


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "--teacher_weights 1",
            "--teacher_weights: the number of weights is 1, that of teachers 2 (a, b-2): give",
        ),
        (
            "--teacher_weights 1 2 3",
            "--teacher_weights: the number of weights is 3, that of teachers 2 (a, b-2)",
        ),
        ("--teacher_weights 1 -1", "--teacher_weights: a weight should be 0 or more (given: 1 -1)"),
        ("--teacher_weights 0 0", "--teacher_weights: every weight is 0, so no teacher is left"),
        ("--teacher_weights 1 x", "--teacher_weights: should be a number (given: 'x')"),
        ("--teacher_weights 1 nan", "--teacher_weights: should be a finite number (given: 'nan')"),
        ("--teacher_name c", "--teacher_name and --teacher_models both name teachers: give one of them."),
        ("--rope_scaling_method ntk", "--rope_scaling_method needs --rope_scaling_factor: the ratio of the"),
        (
            "--rope_scaling_factor 2",
            "--rope_scaling_factor: teachers.a has no rotary scaling of which this is",
        ),
        (
            "--layer_mapping_strategy rato",
            "--layer_mapping_strategy has no kind 'rato'. Did you mean 'ratio'? Choose one of ratio, nearest",
        ),
        (
            "--rope_scaling_method ntkk --rope_scaling_factor 2",
            "--rope_scaling_method is 'ntkk': give one of linear, ntk",
        ),
        (
            "--rope_scaling_method ntk --rope_scaling_factor 0.5",
            "--rope_scaling_factor is 0.5: give a number of at least 1",
        ),
        ("--teachers.a.dtyp float32", "there is no option teachers.a.dtyp. Did you mean 'dtype'?"),
        (
            "--teachers.a.trust_remote_code 1",
            "teachers.a.trust_remote_code: should be true or false (given: 1)",
        ),
        ("--phase 5", "--phase: '5' does not exist. Choose one of: 1, one model under two prompts;"),
    ],
)
def test_what_is_wrong_is_said_once_in_the_name_that_was_typed(words: str, sentence: str) -> None:
    said = refused(*TWO, *words.split())
    assert said.startswith(sentence)
    assert "\n" not in said, "once for all teachers"


def test_without_separate_teachers_their_flags_are_refused() -> None:
    assert refused() == (
        "the_script.py trains from separate teachers, and there is none: name them with --teacher_models A "
        "B, or give a --config with [teachers.NAME]. experiments/train_with_kv.py trains from the student's "
        "own teacher mode."
    )
    for words in (["--teacher_weights", "1"], ["--layer_mapping_strategy", "ratio"]):
        said = refused(*words, multi_teacher=False)
        assert said.startswith(f"{words[0]} is for separate teachers, and there is none: name them with")


def test_the_script_for_one_teacher_refuses_several_and_phases() -> None:
    assert refused(*TWO, multi_teacher=False) == (
        "--teacher_models names 2 teachers, and the_script.py trains from one: give one, or use "
        "experiments/train_multi_teacher_kv.py."
    )
    assert refused("--phase", "3", multi_teacher=False).startswith("--phase: the_script.py has no phases")
