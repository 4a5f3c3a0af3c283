"""The teachers differ from the student and from each other, and every stage is a valid configuration."""

from pathlib import Path

import pytest

from kvdistill.capture import rotation
from kvdistill.capture.architecture import examine
from kvdistill.commands.demo_teachers.recipe import FAMILIES, TEACHERS
from kvdistill.config import SyntheticData, load
from kvdistill.data import Chain
from kvdistill.kv import LayerGeometry
from kvdistill.run.pretrained import load_backbone, load_tokenizer


@pytest.mark.parametrize("name", FAMILIES)
def test_every_stage_is_a_valid_configuration(name: str, tmp_path: Path) -> None:
    for stage in FAMILIES[name](0.01):
        config = stage.config(tmp_path, None, 5)
        assert config.training.task == "cot"
        assert config.training.max_steps == stage.steps >= 2
        assert config.training.seed == config.data.train.seed == 5


def test_heads_widths_and_positions_differ(tmp_path: Path) -> None:
    found = {name: _geometry(name, tmp_path) for name in FAMILIES}
    layers = {name: len(layers) for name, layers in found.items()}
    assert layers == {"student": 2, "gpt2": 3, "qwen3": 2}
    heads = {name: (layers[0].heads, layers[0].key_width) for name, layers in found.items()}
    assert heads == {"student": (4, 16), "gpt2": (4, 16), "qwen3": (2, 24)}
    positional = {name: layers[0].positional for name, layers in found.items()}
    assert positional == {"student": "rotary", "gpt2": "learned", "qwen3": "rotary"}
    normed = {name: layers[0].key_norm is not None for name, layers in found.items()}
    assert normed == {"student": False, "gpt2": False, "qwen3": True}


def _geometry(name: str, folder: Path) -> tuple[LayerGeometry, ...]:
    config = FAMILIES[name](0.01)[0].config(folder, None, 0)
    backbone = load_backbone(config.model, load_tokenizer(config))
    return rotation.geometry(examine(backbone).layers).layers


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_has_other_tokens_than_the_student(name: str, tmp_path: Path) -> None:
    configs = {each: FAMILIES[each](0.01)[-1].config(tmp_path, None, 0) for each in ("student", name)}
    task = configs[name].data.train.task  # pyright: ignore
    assert isinstance(task, Chain)
    student, teacher = (load_tokenizer(config) for config in configs.values())
    text = "\n".join(task.make(2, "train", 0)[1].steps)
    assert len(teacher.tokenize(text)) > len(student.tokenize(text))


def test_names_are_several_tokens_for_one_teacher(tmp_path: Path) -> None:
    pieces = {}
    for name in TEACHERS:
        tokenizer = load_tokenizer(FAMILIES[name](0.01)[0].config(tmp_path, None, 0))
        pieces[name] = [len(tokenizer.tokenize(f" {word}")) for word in Chain(names=8).words()[:8]]
    assert pieces["gpt2"] == [1] * 8
    assert pieces["qwen3"] == [2, 2, 2, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("name", TEACHERS)
def test_a_tokenizer_is_the_same_in_every_stage(name: str, tmp_path: Path) -> None:
    configs = [stage.config(tmp_path, None, 0) for stage in FAMILIES[name](0.01)]
    first, *others = [load_tokenizer(config).get_vocab() for config in configs]
    assert all(vocabulary == first for vocabulary in others)


@pytest.mark.parametrize("name", TEACHERS)
def test_the_shipped_configuration_is_the_last_stage(name: str, tmp_path: Path) -> None:
    shipped = load(f"experiments/configs/teacher_{name}.toml")
    stage = FAMILIES[name](1.0)[-1]
    last = stage.config(tmp_path, None, 0)
    assert shipped.model == last.model
    assert shipped.latent == last.latent
    assert shipped.data.template == last.data.template
    for ours, theirs in (
        (shipped.data.train, last.data.train),
        (shipped.data.validation, last.data.validation),
    ):
        assert isinstance(ours, SyntheticData)
        assert isinstance(theirs, SyntheticData)
        assert (ours.task, ours.split) == (theirs.task, theirs.split)
    for option in ("task", "lr", "batch_size", "max_steps", "scheduler", "adam_beta2", "max_grad_norm"):
        assert getattr(shipped.training, option) == getattr(last.training, option)
    assert shipped.evaluation.max_new_tokens == last.evaluation.max_new_tokens
