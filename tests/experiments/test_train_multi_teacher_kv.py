"""The script for several teachers as a user types it: help, flags to configuration, refusals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvdistill.config import RunConfig, from_flags, resolved
from kvdistill.config.teachers import TeacherSection
from kvdistill.target.methods import Lower

NAME = "train_multi_teacher_kv.py"
SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / NAME
TYPED = """
--student_model folder/student --teacher_models hub/Teacher-A hub/B --teacher_weights .5 .25 --phase 3
--layer_mapping_strategy cka --rope_scaling_method ntk --rope_scaling_factor 2
--kv_compression step_end --kv_loss_type l1 --lambda_k 0.5 --lambda_v 2 --beta_cos 0.1
--gamma_kl 0 --delta_ce 0.7 --train_file rows.jsonl --max_samples 100 --num_train_epochs 3
--per_device_train_batch_size 4 --learning_rate 1e-4 --warmup_steps 50 --seed 7 --output_dir outputs/two
"""


def script(*words: str) -> subprocess.CompletedProcess[str]:
    alone = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        cwd="/",
        env=alone,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def built(words: str) -> RunConfig:
    return from_flags(words.split(), NAME, "Train.", multi_teacher=True)


def test_help_lists_the_flags_of_both_scripts() -> None:
    done = script("--help")
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    assert text.startswith(f"usage: {NAME} ")
    for words in ("--teacher_models X [X ...]", "--phase X", "also --student_model", "also --learning_rate"):
        assert words in text


def test_every_promised_flag_reaches_its_option() -> None:
    config = built(TYPED)
    assert config.model.name == "folder/student"
    assert [(name, section.weight) for name, section in config.teachers.items()] == [
        ("teacher-a", 0.5),
        ("b", 0.25),
    ]
    for section in config.teachers.values():
        assert isinstance(section, TeacherSection)
        assert section.rope_scaling == {"rope_type": "ntk", "factor": 2.0}
        assert section.layers.kind == "cka"
    assert config.bridge == Lower()
    assert config.target.method.kind == "step_end"
    loss, kv = config.loss, config.loss.kv
    assert (kv.distance, kv.lambda_k, kv.lambda_v, kv.cosine_weight) == ("l1", 0.5, 2, 0.1)
    assert (loss.attention_weight, loss.ce_student_weight) == (0, 0.7)
    data = resolved(config)["data"]["train"]
    assert (data["path"], data["limit"]) == ("rows.jsonl", 100)
    training = config.training
    assert (training.epochs, training.batch_size, training.lr, training.warmup_steps) == (3, 4, 1e-4, 50)
    assert (training.seed, training.output_dir) == (7, "outputs/two")


def test_the_other_script_reads_the_same_flags_for_one_teacher() -> None:
    words = TYPED.replace("hub/Teacher-A hub/B", "hub/B").replace(".5 .25", ".5")
    # One teacher is lifted to, which needs no calibrated layer map.
    words = words.replace("--phase 3", "").replace("cka", "nearest")
    one = from_flags(words.split(), "train_with_kv.py", "Train.")
    two = built(TYPED)
    assert (one.loss, one.training, one.target) == (two.loss, two.training, two.target)
    assert one.teachers["b"].weight == 0.5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "--teacher_models a b --per_device_train_batch_size 0",
            "the command line: --per_device_train_batch_size: should be 1 or more (given: 0)",
        ),
        (
            "--teacher_models a b --num_train_epoch 1",
            "There is no option --num_train_epoch. Did you mean --num_train_epochs?",
        ),
        ("--teacher_models a b --phase 5", "--phase: '5' does not exist."),
        ("--student_model a --model_name b", "--student_model and --model_name are two names of one option"),
        ("--student_model a", f"{NAME} trains from separate teachers, and there is none"),
    ],
)
def test_refusals_have_the_name_that_was_typed(words: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        built(words)
    assert str(refused.value).startswith(sentence)


def test_a_refusal_is_one_line_and_an_exit_code() -> None:
    done = script("--teacher_models", "a", "b", "--teacher_weights", "0", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"{NAME}: --teacher_weights: every weight is 0, so no teacher is left: give one of them more.\n"
    )
