"""Every option reaches transformers' Trainer, or the part of the run that reads it."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import TrainingArguments

from kvdistill.config.training import TrainingSection
from kvdistill.training.arguments import training_arguments

CHANGED = {
    "output_dir": "elsewhere",
    "epochs": 2.5,
    "max_steps": 7,
    "batch_size": 3,
    "gradient_accumulation_steps": 5,
    "lr": 0.25,
    "adam_beta2": 0.5,
    "weight_decay": 0.5,
    "warmup_steps": 9,
    "scheduler": "linear",
    "max_grad_norm": 0.75,
    "precision": "bf16",
    "gradient_checkpointing": True,
    "seed": 11,
    "logging_steps": 13,
    "save_total_limit": 4,
    "num_workers": 2,
    "tensorboard": False,
    "progress": False,
}
ELSEWHERE = {
    *("resume", "task", "overwrite", "eval_steps", "stop_at_accuracy", "save_steps", "report"),
    *("cuda_graphs", "pad_to_multiple_of"),
}
"""Read by the run and its callbacks."""


def arguments(**options: object) -> TrainingArguments:
    return training_arguments(TrainingSection(**options))  # pyright: ignore[reportArgumentType]


def test_no_option_is_forgotten() -> None:
    assert CHANGED.keys() | ELSEWHERE == TrainingSection.model_fields.keys()
    assert arguments().to_dict() == arguments().to_dict()


@pytest.mark.parametrize("name", list(CHANGED))
def test_an_option_changes_what_the_trainer_is_told(name: str) -> None:
    assert arguments(**{name: CHANGED[name]}).to_dict() != arguments().to_dict()


def test_the_defaults_are_those_of_the_paper() -> None:
    told = arguments()
    assert (told.learning_rate, told.weight_decay, told.max_grad_norm, told.num_train_epochs) == (
        5e-4,
        0.1,
        2.0,
        10.0,
    )
    assert told.per_device_train_batch_size * told.gradient_accumulation_steps == 128
    assert told.lr_scheduler_type == "cosine"
    # 3 % of 200 steps, and from 1 on steps themselves.
    assert told.get_warmup_steps(200) == 6
    assert arguments(warmup_steps=1).get_warmup_steps(200) == 1


def test_progress_bar_and_tensorboard_can_be_had_or_left_out() -> None:
    assert not arguments().disable_tqdm
    assert arguments(progress=False).disable_tqdm
    assert arguments().report_to == ["tensorboard"]
    assert arguments(tensorboard=False).report_to == []


def test_tensorboard_is_left_out_where_its_extra_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvdistill.training.arguments.missing_packages", {"reporting": ("tensorboard",)}.get)
    assert arguments().report_to == []


def test_half_precision_without_a_gpu_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(
        ValueError,
        match="training.precision fp16 needs a GPU, and none is visible: set training.precision to bf16",
    ):
        arguments(precision="fp16")
    assert arguments(precision="bf16").bf16


def test_several_gpus_in_one_process_are_not_driven_by_data_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        TrainingArguments,
        "_setup_devices",
        property(lambda self: setattr(self, "_n_gpu", 4) or torch.device("cpu")),
    )
    assert TrainingArguments(use_cpu=True).n_gpu == 4
    told = arguments(batch_size=3)
    assert (told.n_gpu, told.train_batch_size) == (1, 3)


@pytest.mark.parametrize(
    ("option", "value"),
    [("learning_rate", 1e-3), ("lr", 0), ("epochs", 0), ("save_total_limit", 0), ("task", "words")],
)
def test_a_wrong_option_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ValidationError, match=option):
        TrainingSection(**{option: value})  # pyright: ignore[reportArgumentType]


def test_importing_and_building_write_nothing(tmp_path: Path) -> None:
    arguments(output_dir=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
