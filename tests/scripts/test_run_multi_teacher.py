"""Phases of several teachers by SLURM's script: what each asks for, and two of them for real."""

from pathlib import Path

import pytest

import pico_trained
from kvdistill.config import RunConfig, TeacherSection, from_flags
from kvdistill.config.explain import members, tag_of
from kvdistill.fuse.methods import FusionMethod
from kvdistill.fuse.routers import RouterMethod
from pico_project import Project

SCRIPT = "run_multi_teacher.sh"


def choices(union: object) -> str:
    """All kinds of a method, as messages list them."""
    *kinds, last = [tag_of(method) for method in members(union)]
    return f"{', '.join(map(str, kinds))} or {last}"


def configs(clerk: Project) -> list[RunConfig]:
    found = []
    for words in clerk.calls():
        script = words.index("experiments/train_multi_teacher_kv.py")
        found.append(from_flags(words[script + 1 :], words[script], "", multi_teacher=True))
    return found


def test_by_default_a_frozen_copy_of_qwen_teaches_in_phases_1_and_2(clerk: Project) -> None:
    done = clerk.run(SCRIPT)
    assert done.returncode == 0, done.stderr
    one, two = configs(clerk)
    assert one.model.name == two.model.name == "Qwen/Qwen2.5-0.5B-Instruct"
    assert list(one.active_teachers) == ["words", "equations"]
    assert list(two.active_teachers) == ["first", "second"]
    assert one.training.output_dir == "outputs/multi_teacher/phase1"
    first = two.active_teachers["first"]
    assert isinstance(first, TeacherSection)
    assert (first.name, first.traces) == (two.model.name, "outputs/multi_teacher/phase2/samples")
    assert one.training.resume


def test_every_variable_reaches_its_phase(clerk: Project) -> None:
    done = clerk.run(
        SCRIPT,
        PHASES="2 3 4",
        TEACHER_MODELS="a/b c/d",
        TEACHER_WEIGHTS="1 3",
        STUDENT_MODEL="me",
        NUM_SAMPLES="5",
        ROUTER="gate",
        OUTPUT_BASE="my outputs",
        TRAIN_FILE="x.jsonl",
        KV_METHOD="step_end",
        SEED="3",
    )
    assert done.returncode == 0, done.stderr
    two, three, four = configs(clerk)
    assert {section.name for section in two.active_teachers.values()} == {"a/b"}  # pyright: ignore
    assert two.sampling.num_samples == 5
    assert [section.weight for section in three.teachers.values()] == [1.0, 3.0]
    assert (three.fusion.kind, four.fusion.kind) == ("fixed", "learnable")
    assert four.fusion.router.kind == "gate"  # pyright: ignore
    assert four.training.output_dir == "my outputs/phase4"
    assert {config.target.method.kind for config in (two, three, four)} == {"step_end"}
    assert {config.training.seed for config in (two, three, four)} == {3}


@pytest.mark.parametrize("method", members(FusionMethod))
def test_every_fusion_is_one_of_phases_3_and_4(clerk: Project, method: type) -> None:
    kind = str(tag_of(method))
    done = clerk.run(SCRIPT, PHASES="3 4", TEACHER_MODELS="a/b c/d", FUSION=kind)
    assert done.returncode == 0, done.stderr
    three, four = configs(clerk)
    assert three.fusion.kind == four.fusion.kind == kind


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"PHASES": "6"}, "PHASES: there is no phase '6'. Choose from 1 2 3 4."),
        ({"PHASES": "3", "TEACHER_MODELS": "one"}, "phase 3 needs two or more teachers: name them in"),
        ({"CHAIN": "yes"}, "CHAIN is 'yes': choose true or false."),
        ({"NUM_SAMPLES": "1"}, "NUM_SAMPLES is 1: give 2 or more."),
        ({"PHASES": " "}, "PHASES is empty: give one or more of 1 2 3 4."),
        ({"FUSION": "similar"}, f"FUSION is 'similar': choose {choices(FusionMethod)}."),
        ({"ROUTER": "mpl"}, f"ROUTER is 'mpl': choose {choices(RouterMethod)}."),
        ({"FUSION": "draw", "ROUTER": "mlp"}, "ROUTER is mlp, and FUSION draw has no router: leave one"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    clerk: Project, settings: dict[str, str], sentence: str
) -> None:
    done = clerk.run(SCRIPT, **settings)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_phases_2_and_4_for_real_each_from_the_one_before(project: Project, tmp_path: Path) -> None:
    pico_trained.trained().save_pretrained(tmp_path / "first")
    pico_trained.trained().save_pretrained(tmp_path / "second")
    words = [f"{'please ' * (index % 4)}{a} {b}||{b} {a} #### {a}" for index in range(4) for a, b in PAIRS]
    rows = tmp_path / "rows.txt"
    rows.write_text("\n".join(dict.fromkeys(words)) + "\n")
    settings = {
        "PHASES": "2 4",
        "CHAIN": "true",
        "STUDENT_MODEL": str(tmp_path / "first"),
        "TEACHER_MODELS": f"{tmp_path}/first {tmp_path}/second",
        "TRAIN_FILE": str(rows),
        "OUTPUT_BASE": str(tmp_path / "out"),
        "MAX_STEPS": "2",
        "BATCH_SIZE": "8",
        "LORA_R": "0",
        "NUM_SAMPLES": "6",
        "KV_METHOD": "uniform",
        "EXTRA_ARGS": "--latent.slots 2 --latent.passes 2 --sampling.temperature 2 --training.progress false "
        "--training.report false --training.tensorboard false --sampling.max_new_tokens 8 --eval_steps 0",
    }
    done = project.run(SCRIPT, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Phase 2 is complete" in done.stdout
    assert "Phase 4 is complete" in done.stdout
    assert (tmp_path / "out" / "phase2" / "samples" / "samples.json").is_file()
    assert (tmp_path / "out" / "phase4" / "competence" / "competence.jsonl").is_file()
    assert f"--student_model {tmp_path}/out/phase2/checkpoint-ep1" in done.stdout
    again = project.run(SCRIPT, **settings)
    assert again.returncode == 0, again.stdout + again.stderr


PAIRS = [(a, b) for a in pico_trained.NAMES for b in pico_trained.NAMES]
