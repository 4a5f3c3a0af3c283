"""The loop on tiny students: what is averaged, what is logged, and what a checkpoint is worth."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from transformers import TrainerState

import pico_trained
from kvdistill.data.batches import length_batches
from kvdistill.data.collate import collate
from kvdistill.data.encode import num_tokens
from kvdistill.kv import LossOutput
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.pipeline import Distillation
from kvdistill.target import MeanTarget
from kvdistill.text import Batch
from kvdistill.training.checkpoint import EXTRA_STATE_FILE, checkpoints, newest_checkpoint
from pico_training import StepFunction, distance, logged, make, trained

# What is averaged.


def auto_step(model: LatentReasoner, control: MeanTarget | None = None) -> Distillation:
    return pico_trained.distillation(model, replace(pico_trained.OBJECTIVE, kv_weight="auto"), control)


@pytest.mark.parametrize(("num", "auto"), [(24, False), (19, False), (19, True)])
def test_accumulating_four_batches_of_two_equals_a_batch_of_eight(
    tmp_path: Path, num: int, auto: bool
) -> None:
    def run(folder: str, **options: int) -> LatentReasoner:
        model = pico_trained.student()
        return trained(
            tmp_path / folder,
            model=model,
            step=auto_step(model) if auto else None,
            ordered=True,
            num=num,
            **options,
        )

    whole = run("whole", batch_size=8)
    parts = run("parts", batch_size=2, gradient_accumulation_steps=4)
    assert distance(whole, pico_trained.student()) > 1e-3
    assert distance(whole, parts) < 1e-5
    lines, others = logged(tmp_path / "whole"), logged(tmp_path / "parts")
    for name in ("loss", "ce_student", "kv", *["kv_weight"] * auto):
        assert list(lines[name].values()) == pytest.approx(list(others[name].values()), abs=1e-5)


def by_hand(model: nn.Module, batch: Batch, step: int, progress: float) -> LossOutput:
    """A loss that is the mean of the samples' numbers, plus a thread to the weights so that it can be
    differentiated.
    """
    value = torch.tensor([float(sample_id) for sample_id in batch.sample_ids]).mean()
    return LossOutput(
        value + 0 * next(model.parameters()).sum(), {"number": value, "progress": torch.tensor(progress)}
    )


def test_lines_hold_means_over_the_samples_since_the_last_line(tmp_path: Path) -> None:
    # Steps of four samples in twos, and a short one: 0123, 4; 0123, 4. Lines after steps 1, 2 and 4.
    options = {"batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 4, "logging_steps": 2}
    trained(tmp_path, ordered=True, num=5, step=by_hand, **options)
    lines = logged(tmp_path)
    assert lines["number"] == {1: 1.5, 2: 4.0, 4: (1.5 + 4.0) / 2}
    assert lines["loss"] == pytest.approx(lines["number"])
    assert lines["progress"] == {1: 0.0, 2: 0.25, 4: 0.625}


def test_the_logged_loss_is_the_weighted_sum_of_the_logged_terms(tmp_path: Path) -> None:
    trained(tmp_path, num=7, gradient_accumulation_steps=2)
    lines = logged(tmp_path)
    assert set(lines) >= {
        "ce_student",
        "ce_teacher",
        "codi",
        "kv",
        "kv_k",
        "kv_v",
        "loss",
        "learning_rate",
        "grad_norm",
        "epoch",
    }
    for step, loss in lines["loss"].items():
        assert loss == pytest.approx(
            sum(lines[name][step] for name in ("ce_student", "ce_teacher", "codi", "kv")), abs=1e-4
        )
    assert lines["loss"][3] < lines["loss"][1]


def test_every_epoch_has_its_own_order_of_length_batches(tmp_path: Path) -> None:
    seen = []

    def watch(model: nn.Module, batch: Batch, step: int, progress: float) -> LossOutput:
        seen.append(tuple(batch.sample_ids))
        return by_hand(model, batch, step, progress)

    trainer = make(tmp_path, step=watch, num=11, max_steps=-1, epochs=2, seed=5)
    trainer.train()
    lengths = [num_tokens(sample) for sample in trainer.train_dataset]  # pyright: ignore
    expected = [length_batches(lengths, 4, 5, epoch) for epoch in (0, 1)]
    assert seen == [tuple(map(str, batch)) for epoch in expected for batch in epoch]
    assert expected[0] != expected[1]


# Precision and memory.


def test_gradient_checkpointing_changes_nothing_but_the_work(tmp_path: Path) -> None:
    models, calls = [], []
    for again in (False, True):
        model = pico_trained.student()
        model.geometry()
        count = []
        # Asked before and not after, since a replay stops as soon as it has what it needs.
        model.backbone.model.layers[0].mlp.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        models.append(trained(tmp_path / str(again), model=model, gradient_checkpointing=again))
        calls.append(len(count))
    # Three steps, each with one packed call and two passes, and each of them once more where it is replayed.
    assert calls == [9, 18]
    assert distance(*models) < 1e-6


def test_bf16_computes_otherwise_and_comes_out_near(tmp_path: Path) -> None:
    exact = trained(tmp_path / "float32")
    rough = trained(tmp_path / "bf16", precision="bf16")
    assert next(rough.parameters()).dtype == torch.float32
    assert 0 < distance(exact, rough) <= 6 * 1e-3
    near = [logged(tmp_path / name)["loss"] for name in ("float32", "bf16")]
    assert near[1] != near[0]
    assert near[1] == pytest.approx(near[0], rel=0.02)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflow(self: torch.optim.Optimizer, *_: object, **__: object) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                weight.data.fill_(torch.inf)

    monkeypatch.setattr(torch.optim.AdamW, "step", overflow)
    with pytest.raises(
        FloatingPointError,
        match=r"After step 1, \d+ weights are not finite \(.*\); they are not saved\. Lower training",
    ):
        trained(tmp_path, max_steps=1)
    assert names(tmp_path) == set()


# Adapters.


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with a backbone."""
    pico_trained.student().backbone.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_with_lora_only_the_adapters_learn_and_only_they_are_saved(tmp_path: Path, base: Path) -> None:
    lora = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"}
    model = pico_trained.student(lora=lora, base=str(base))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trainer = make(tmp_path / "run", model=model)
    trainer.train()
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimised = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert optimised == {id(parameter) for name, parameter in model.named_parameters() if name in learning}
    changed = {
        name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])
    }
    assert changed <= learning
    assert {"feedback.up.weight"} < changed
    assert any("lora_B" in name for name in changed)
    loaded = LatentReasoner.from_pretrained(tmp_path / "run" / "checkpoint-ep2-step3")
    assert same_outputs(model, loaded)
    size = sum(
        path.stat().st_size for path in (tmp_path / "run" / "checkpoint-ep2-step3").glob("*.safetensors")
    )
    assert size < sum(4 * parameter.numel() for parameter in model.parameters())


# Checkpoints.


def same_outputs(one: LatentReasoner, other: LatentReasoner) -> bool:
    batch = collate(pico_trained.samples(one)[:5], 0)
    with torch.no_grad():
        first, second = (model.eval()(batch=batch) for model in (one, other))
    return all(
        torch.equal(mine.rows.logits, theirs.rows.logits)
        and torch.equal(mine.kv.layers[1].keys, theirs.kv.layers[1].keys)
        for mine, theirs in ((first.teacher, second.teacher), (first.student, second.student))
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def test_names_tell_epoch_and_step(tmp_path: Path) -> None:
    # Three steps an epoch, a wish every two, and the end inside the third epoch.
    trained(tmp_path, num=10, max_steps=7, save_steps=2)
    assert names(tmp_path) == {
        "checkpoint-ep1-step2",
        "checkpoint-ep1",
        "checkpoint-ep2-step4",
        "checkpoint-ep2",
        "checkpoint-ep3-step7",
    }
    steps = [
        json.loads((path / "trainer_state.json").read_text())["global_step"] for path in checkpoints(tmp_path)
    ]
    assert steps == [2, 3, 4, 6, 7]
    assert [path.name for path in checkpoints(tmp_path)][-1] == "checkpoint-ep3-step7"


def test_a_checkpoint_loads_strictly_and_answers_as_the_model_did(tmp_path: Path) -> None:
    model = trained(tmp_path, num=12)
    folder = tmp_path / "checkpoint-ep1"
    files = {path.name for path in folder.iterdir()}
    assert files >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        EXTRA_STATE_FILE,
    }
    assert not [name for name in files if name.endswith(".bin")]
    loaded = LatentReasoner.from_pretrained(folder)
    assert same_outputs(model, loaded)
    assert loaded.answer(["Ann Bob", "please Eve Cid"]) == model.answer(["Ann Bob", "please Eve Cid"])
    del loaded.feedback.up  # pyright: ignore
    loaded.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"missing feedback\.up"):
        LatentReasoner.from_pretrained(tmp_path / "other")


def test_training_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    """To the last bit, lines of the log that span the interruption included."""
    options = {
        "num": 12,
        "max_steps": 7,
        "logging_steps": 3,
        "batch_size": 2,
        "gradient_accumulation_steps": 2,
        "scheduler": "cosine",
    }
    whole = trained(tmp_path / "whole", **options)
    trained(tmp_path / "parts", **options, save_steps=2)
    folder = tmp_path / "parts" / "checkpoint-ep2-step4"
    trainer = make(tmp_path / "parts", model=LatentReasoner.from_pretrained(folder), **options)
    trainer.train(resume_from_checkpoint=str(folder))
    assert distance(whole, trainer.model.student) == 0  # pyright: ignore[reportArgumentType]
    first, second = (logged(tmp_path / name) for name in ("whole", "parts"))
    assert second["loss"].keys() == {1, 3, 6}
    assert second["epoch_kv"].keys() == {3, 6, 7}
    assert first.keys() == second.keys()
    for file in ("metrics.jsonl", "training_log.txt"):
        lines = [(tmp_path / name / file).read_text().splitlines()[:-1] for name in ("whole", "parts")]
        assert lines[0] == lines[1]


def test_what_a_step_carries_goes_on_too(tmp_path: Path) -> None:
    def run(
        folder: Path, model: LatentReasoner, resume: Path | None = None, **options: object
    ) -> LatentReasoner:
        trainer = make(
            folder, model=model, step=auto_step(model, control=MeanTarget()), num=12, max_steps=5, **options
        )
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return trainer.model.student  # pyright: ignore[reportReturnType]

    whole = run(tmp_path / "whole", pico_trained.student())
    run(tmp_path / "parts", pico_trained.student(), save_steps=2)
    folder = tmp_path / "parts" / "checkpoint-ep1-step2"
    resumed = run(tmp_path / "parts", LatentReasoner.from_pretrained(folder), folder)
    assert distance(whole, resumed) == 0
    assert len(set(logged(tmp_path / "parts")["kv_weight"].values())) == 1


def test_means_of_a_metric_go_on_under_its_present_name(tmp_path: Path) -> None:
    """A checkpoint of an earlier version, written between two lines of the log."""

    def logs(name: str) -> StepFunction:
        return lambda *given: LossOutput(by_hand(*given).loss, {name: by_hand(*given).metrics["number"]})

    options = {"num": 12, "max_steps": 6, "logging_steps": 3, "save_steps": 2}
    trained(tmp_path / "whole", step=logs("kv_lower_bound"), **options)
    trained(tmp_path / "parts", step=logs("kv_floor"), **options)
    folder = tmp_path / "parts" / "checkpoint-ep2-step4"
    resumed = LatentReasoner.from_pretrained(folder)
    trainer = make(tmp_path / "parts", model=resumed, step=logs("kv_lower_bound"), **options)
    trainer.train(resume_from_checkpoint=str(folder))
    lines = [logged(tmp_path / name)["kv_lower_bound"] for name in ("whole", "parts")]
    assert lines[0] == lines[1] and lines[0].keys() == {1, 3, 6}
    assert "kv_floor" not in (tmp_path / "parts" / "metrics.jsonl").read_text()
    last = newest_checkpoint(tmp_path / "parts")
    assert last is not None and last != folder
    assert "kv_floor" not in (last / "trainer_state.json").read_text()
    assert b"kv_floor" not in (last / EXTRA_STATE_FILE).read_bytes()


def refuse(*_: object, **__: object) -> None:
    raise OSError("no space left on device")


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        ("model", "save_pretrained"),
        ("trainer", "_save_optimizer_and_scheduler"),
        ("trainer", "_save_rng_state"),
    ],
)
def test_a_crash_while_writing_leaves_only_what_was_whole(tmp_path: Path, owner: str, method: str) -> None:
    trainer = make(tmp_path, num=12, max_steps=6)
    broken = trainer.model.student if owner == "model" else trainer
    own = getattr(broken, method)
    setattr(
        broken,
        method,
        lambda *args, **kwargs: (own if trainer.state.global_step == 3 else refuse)(*args, **kwargs),
    )
    with pytest.raises(
        OSError,
        match=r"ep2 could not be written \(no space left on device\); .*ep1 is complete\. .*--resume",
    ):
        trainer.train()
    assert names(tmp_path) == {"checkpoint-ep1"}, "nothing half-written stays, and takes no space"
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-ep1"
    LatentReasoner.from_pretrained(tmp_path / "checkpoint-ep1")
    trained(tmp_path, num=12, max_steps=6)
    assert names(tmp_path) == {"checkpoint-ep1", "checkpoint-ep2"}


def test_a_crash_at_the_state_file_leaves_only_what_was_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainerState, "save_to_json", refuse)
    with pytest.raises(OSError, match="there is no earlier one"):
        trained(tmp_path, num=12)
    assert newest_checkpoint(tmp_path) is None
    assert names(tmp_path) == set()


def test_only_the_newest_are_kept_where_a_limit_is_set(tmp_path: Path) -> None:
    trained(tmp_path / "run", num=4, max_steps=4, save_total_limit=2)
    assert names(tmp_path / "run") == {"checkpoint-ep3", "checkpoint-ep4"}


# What is said.


def poisoned(step: Distillation, at: int, term: str) -> StepFunction:
    def run(model: LatentReasoner, batch: Batch, index: int, progress: float) -> LossOutput:
        output = step(batch, index, progress)
        if index < at:
            return output
        return LossOutput(output.loss * float("nan"), output.metrics | {term: torch.tensor(float("inf"))})

    return run


def test_a_loss_that_is_not_finite_stops_with_step_term_and_samples(tmp_path: Path) -> None:
    model = pico_trained.student()
    broken = poisoned(pico_trained.distillation(model), 1, "kv")
    message = (
        r"In step 2, kv is not finite for samples 4, 5\. Lower training\.lr or the weight of the "
        r"term, or compute in float32"
    )
    with pytest.raises(FloatingPointError, match=message):
        trained(tmp_path, model=model, step=broken, ordered=True, num=6)
    with pytest.raises(FloatingPointError, match="In step 1, the weighted sum is not finite"):
        trained(tmp_path, step=lambda *args: LossOutput(by_hand(*args).loss / 0, {}), ordered=True)


def test_tensorboard_shows_every_term(tmp_path: Path) -> None:
    trained(tmp_path, tensorboard=True)
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    board = EventAccumulator(str(events))
    board.Reload()
    assert set(board.Tags()["scalars"]) >= {
        "train/loss",
        "train/ce_student",
        "train/kv",
        "train/learning_rate",
    }
    shown = {event.step: event.value for event in board.Scalars("train/kv")}
    assert shown == pytest.approx(logged(tmp_path)["kv"])
