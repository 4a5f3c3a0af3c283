"""The shipped configurations: all of them load, and the recipes say what the papers say."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from kvdistill.compress import RKV, Full, RightCrop
from kvdistill.config import Lora, RunConfig, SyntheticData, TeacherSection, load, parse, resolved
from kvdistill.target import NoControl, Shuffled

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "configs"
PATHS = sorted(FOLDER.glob("*.toml"))
NAMES = {path.stem for path in PATHS}

# model, data: CODI weight, KV weight, distance, layer std, lambda, projection, learning rate, weight decay,
# epochs (table 6 of the paper).
TABLE = {
    "kava_qwen2.5_0.5b_aug": ("Qwen/Qwen2.5-0.5B-Instruct", 10, 1, "mse", False, 0.1, "mlp", 5e-4, 0.01, 10),
    "kava_qwen2.5_0.5b_aug_nl": ("Qwen/Qwen2.5-0.5B-Instruct", 10, 1, "mse", True, 0.1, "mlp", 8e-4, 0.1, 10),
    "kava_llama_3.2_1b_aug": (
        "meta-llama/Llama-3.2-1B-Instruct",
        10,
        1,
        "smooth_l1",
        True,
        0.1,
        "mlp",
        8e-4,
        0.1,
        10,
    ),
    "kava_llama_3.2_1b_aug_nl": (
        "meta-llama/Llama-3.2-1B-Instruct",
        10,
        1,
        "mse",
        True,
        0.1,
        "mlp",
        8e-4,
        0.1,
        10,
    ),
    "kava_llama_3.2_3b_aug": (
        "meta-llama/Llama-3.2-3B-Instruct",
        20,
        2,
        "smooth_l1",
        False,
        0.1,
        "mlp",
        2e-4,
        0.1,
        5,
    ),
    "kava_llama_3.2_3b_aug_nl": (
        "meta-llama/Llama-3.2-3B-Instruct",
        20,
        2,
        "smooth_l1",
        False,
        0.0,
        "none",
        2e-4,
        0.1,
        5,
    ),
}
FIVE = {
    "e1_baseline": (RKV(), NoControl(), 0.0),
    "e2_full": (Full(), NoControl(), "auto"),
    "e3_right_crop": (RightCrop(), NoControl(), "auto"),
    "e4_rkv": (RKV(), NoControl(), "auto"),
    "e5_shuffled": (RKV(), Shuffled(), "auto"),
}


def shipped(name: str) -> RunConfig:
    return load(FOLDER / f"{name}.toml")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_shipped_configuration_loads_and_writes_where_its_name_says(path: Path) -> None:
    config = load(path)
    assert config.training.output_dir == f"outputs/{path.stem}"
    assert parse(resolved(config), str(path)) == config
    assert path.read_text(encoding="utf-8").startswith("# "), "the first line says what it is for"


def test_what_is_shipped_is_what_is_tested_here() -> None:
    tasks = {
        "chain",
        "chain_mixed",
        "chain_study",
        "rules_groups",
        "rules_mixed",
        "gsm8k_tiny",
        "phase1_dual_prompt",
        "phase2_multi_sample",
        "phase4_routing",
        "teacher_gpt2",
        "teacher_qwen3",
        "teacher_rules",
    }
    assert {*TABLE, *FIVE, "e0_warm", *tasks} == NAMES


@pytest.mark.parametrize("name", TABLE)
def test_the_recipes_are_those_of_table_6(name: str) -> None:
    model, codi, kv, distance, layer_std, importance, projection, lr, decay, epochs = TABLE[name]
    config = shipped(name)
    assert config.model.name == model
    assert config.model.tuning == Lora(r=128, alpha=32, dropout=0.1)
    assert (config.loss.codi_weight, config.loss.kv_weight) == (codi, kv)
    assert (config.loss.kv.distance, config.loss.kv.layer_std) == (distance, layer_std)
    assert (config.loss.kv.lambda_k, config.loss.kv.lambda_v, config.loss.kv.frame) == (1.0, 1.0, "pre_rope")
    assert config.target.method == RKV(importance_weight=importance)
    assert (config.latent.slots, config.latent.passes, config.latent.delimiters) == (24, 3, "student")
    assert config.latent.feedback == projection
    training = config.training
    assert (training.lr, training.weight_decay, training.epochs) == (lr, decay, epochs)
    assert training.batch_size * training.gradient_accumulation_steps == 128
    assert (training.scheduler, training.max_grad_norm, training.task) == ("cosine", 2.0, "latent")
    assert config.data.drop_last_step == name.endswith("_aug")
    part = "gsm8k_aug_nl" if name.endswith("_nl") else "gsm8k_aug"
    files = {split: getattr(config.data, split).path for split in ("train", "validation", "test")}
    assert files == {split: f"data/{part}_{split}.jsonl" for split in files}


def test_the_recipes_say_how_to_get_the_data() -> None:
    for name in [*TABLE, "gsm8k_tiny"]:
        text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
        (command,) = re.findall(r"python (scripts/export_gsm8k\.py.*)", text)
        script, *options = shlex.split(command)
        hub = options[-1] if options else "openai/gsm8k"
        assert (FOLDER.parents[1] / script).is_file()
        assert options in ([], ["--dataset_name", hub])
        stem = hub.partition("/")[2].replace("-", "_")
        path = getattr(shipped(name).data.train, "path")  # noqa: B009
        assert path == f"data/{stem}_train.jsonl"
        assert ("gated" in text) == ("llama" in name)


@pytest.mark.parametrize("name", FIVE)
def test_the_five_experiments_differ_in_the_target_alone(name: str) -> None:
    method, control, weight = FIVE[name]
    config, baseline = shipped(name), shipped("e1_baseline")
    assert (config.target.method, config.target.control, config.loss.kv_weight) == (method, control, weight)
    changed = {"target": baseline.target, "loss": baseline.loss, "training": baseline.training}
    assert config.model_copy(update=changed) == baseline
    assert config.training.model_copy(update={"output_dir": "outputs/e1_baseline"}) == baseline.training


def test_the_five_start_from_the_warm_start_that_e0_leaves() -> None:
    warm, first = shipped("e0_warm"), shipped("e1_baseline")
    assert warm.training.task == "cot"
    assert first.model.name == f"{warm.training.output_dir}/checkpoint-ep{warm.training.epochs:.0f}"
    assert first.latent == warm.latent
    assert first.model.tuning == warm.model.tuning
    assert first.data.template == warm.data.template


@pytest.mark.parametrize("name", ["chain", "chain_study", "e0_warm", *FIVE])
def test_the_embedded_task_is_large_enough_and_fits_the_positions(name: str) -> None:
    config = shipped(name)
    for data in (config.data.train, config.data.validation, config.data.test):
        assert isinstance(data, SyntheticData)
        task = data.task
        assert task.kind == "chain"
        assert data.num <= task.capacity(data.split)
        assert config.latent.slots == task.steps
        example = task.make(1, data.split, 0)[0]
        texts = (example.question, example.teacher_cue, *example.steps, "answer", example.answer)
        words = " ".join(texts).split()
        assert len(words) + 4 <= 128
    assert {data.split for data in (config.data.train, config.data.validation, config.data.test)} == {
        "train",
        "validation",
        "test",
    }  # pyright: ignore


def test_commands_in_the_comments_name_files_that_are_there() -> None:
    commands = [
        line for path in PATHS for line in re.findall(r"kvdistill train .*", path.read_text(encoding="utf-8"))
    ]
    assert len(commands) >= 8
    for command in commands:
        words = shlex.split(command.split(". Then")[0])
        path = FOLDER.parents[1] / words[words.index("--config") + 1]
        overrides = words[words.index("--config") + 2 :]
        assert load(path, overrides)


def test_the_tiny_run_reads_real_rows_with_a_random_model() -> None:
    config = shipped("gsm8k_tiny")
    assert config.model.name is None
    assert config.model.tuning.kind == "full"
    assert config.model.tokenizer is not None
    assert config.model.tokenizer.endswith("tokenizer.json")
    assert config.training.max_steps == 200


def test_the_configurations_of_the_phases_name_what_the_commands_above_them_leave() -> None:
    warm = shipped("e0_warm").training
    assert shipped("phase1_dual_prompt").model.name == f"{warm.output_dir}/checkpoint-ep{warm.epochs:.0f}"
    study = tomllib.loads((FOLDER.parent / "studies" / "complementary.toml").read_text(encoding="utf-8"))
    last = study["warm"][-1]
    begun = _left(f"warm/{last['name']}", last)
    two, four = shipped("phase2_multi_sample"), shipped("phase4_routing")
    assert two.model.name == four.model.name == begun
    for name in ("a", "b"):
        assert _name(four, name) == _left(f"teacher_{name}", study["arms"][f"teacher_{name}"])
    text = (FOLDER / "phase2_multi_sample.toml").read_text(encoding="utf-8")
    (command,) = re.findall(r"kvdistill train (--config \S*teacher_rules.toml .*)", text)
    varied = load(FOLDER / "teacher_rules.toml", shlex.split(command)[2:])
    assert varied.model.name == _name(four, "a")
    assert (two.fusion.kind, four.fusion.kind) == ("fixed", "learnable")
    made = f"{varied.training.output_dir}/checkpoint-ep1-step{varied.training.max_steps}"
    assert _name(two, "first") == _name(two, "second") == made


def _left(folder: str, stage: dict[str, Any]) -> str:
    """The checkpoint of a stage of fewer steps than an epoch has."""
    return f"outputs/complementary/{folder}/seed0/checkpoint-ep1-step{stage['training']['max_steps']}"


def _name(config: RunConfig, teacher: str) -> str:
    section = config.teachers[teacher]
    assert isinstance(section, TeacherSection)
    return section.name
