"""``--phase``: what each phase sets, and what it refuses."""

import pytest

from kvdistill.config import RunConfig, TeacherSection, from_flags
from kvdistill.config.phase_flags import PHASES, check_phase
from kvdistill.fuse.methods import Fixed, Learnable, Similarity
from kvdistill.target.methods import Lower

ROWS = ("--student_model", "m", "--train_file", "x.jsonl", "--output_dir", "out")
TWO = ("--teacher_models", "hub/A", "folder/b")


def phase(number: str, *words: str) -> RunConfig:
    return from_flags([*ROWS, "--phase", number, *words], "the_script.py", "", multi_teacher=True)


def active(config: RunConfig) -> dict[str, TeacherSection]:
    found = config.active_teachers
    return {name: section for name, section in found.items() if isinstance(section, TeacherSection)}


def refused(number: str, *words: str) -> str:
    with pytest.raises(ValueError) as caught:
        phase(number, *words)
    return str(caught.value)


def test_phase_1_is_a_frozen_copy_under_two_prompts() -> None:
    config = phase("1")
    found = active(config)
    assert list(found) == ["words", "equations"]
    assert [section.name for section in found.values()] == ["m", "m"]
    assert [section.reads for section in found.values()] == ["words", "equations"]
    assert {section.adapter.kind for section in found.values()} == {"identity"}
    assert isinstance(config.bridge, Lower)
    assert config.lower_order == "compress_first"
    assert config.target.method.same_in_all_heads
    task = ("--data.train.kind", "synthetic")
    embedded = from_flags(
        ["--model_name", "m", "--phase", "1", *task], "the_script.py", "", multi_teacher=True
    )
    assert list(active(embedded)) == ["verbose", "terse"]


def test_phase_2_reads_two_sampled_chains_of_one_model() -> None:
    config = phase("2", "--teacher_models", "big", "--num_samples", "5")
    found = active(config)
    assert list(found) == ["first", "second"]
    assert {section.name for section in found.values()} == {"big"}
    assert {section.traces for section in found.values()} == {"out/samples"}
    assert [section.draw for section in found.values()] == [0, 1]
    assert {section.adapter.kind for section in found.values()} == {"ridge"}, "another model than the student"
    assert (config.sampling.num_samples, config.sampling.min_right) == (5, 2)


def test_phase_3_has_fixed_weights_and_phase_4_a_router() -> None:
    assert isinstance(phase("3", *TWO).fusion, Fixed)
    routed = phase("4", *TWO).fusion
    assert isinstance(routed, Learnable)
    assert routed.competence == "out/competence"
    gate = phase("4", *TWO, "--router_type", "gate", "--entropy_target", "diverse").fusion
    assert isinstance(gate, Learnable)
    assert (gate.router.kind, gate.entropy) == ("gate", "diverse")
    similar = phase("4", *TWO, "--fusion_method", "similarity", "--competence", "table").fusion
    assert isinstance(similar, Similarity)
    assert similar.competence == "table"


def test_phases_3_and_4_make_a_table_where_the_fusion_reads_one() -> None:
    for number in ("3", "4"):
        for kind in ("similarity", "competence", "learnable"):
            assert phase(number, *TWO, "--fusion_method", kind).fusion.table == "out/competence"
        for kind in ("fixed", "draw"):
            assert phase(number, *TWO, "--fusion_method", kind).fusion.table is None


def test_phases_1_and_2_refuse_two_teachers_that_read_the_students_text() -> None:
    for number in ("1", "2"):
        assert refused(number, *TWO).startswith(
            f"--phase {number} reads two texts with one model, and all of its 2 teachers here read"
        )
    assert list(active(phase("1", *TWO, "--teachers.b.reads", "words"))) == ["a", "b"]
    assert list(active(phase("1", *TWO, "--teachers.b.cue", "briefly"))) == ["a", "b"]
    assert "all of its 2 teachers" in refused("2", *TWO, "--teachers.b.cue", "briefly")


def test_what_is_refused() -> None:
    assert refused("3", "--teacher_models", "a").startswith(
        "--phase 3 fuses two or more teachers, and there is 1: name them with --teacher_models A B."
    )
    assert refused("4", "--teacher_models", "a").startswith("--phase 4 fuses two or more teachers")
    for number in ("5", "three"):
        with pytest.raises(ValueError, match="does not exist. Choose one of: 1, one model under two prompts"):
            check_phase(number, "x", multi_teacher=True)
    for number in (None, *PHASES):
        check_phase(number, "x", multi_teacher=True)
    with pytest.raises(ValueError, match="x has no phases"):
        check_phase("3", "x", multi_teacher=False)
    assert "the student is a new model: start it from one" in refused_new()


def refused_new() -> str:
    """A phase 1 whose student has random weights."""
    with pytest.raises(ValueError) as caught:
        from_flags(
            ["--config", "experiments/configs/rules_groups.toml", "--phase", "1"], "x", "", multi_teacher=True
        )
    return str(caught.value)
