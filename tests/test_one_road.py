"""Several teachers are one road: what has to be the same whichever way caches come to the student."""

import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import pico_process
from conftest import sampled
from kvdistill.config import RunConfig
from kvdistill.data import Chain, write_jsonl
from kvdistill.evaluation.evaluate import Evaluator
from kvdistill.kv import ModelKV
from kvdistill.pipeline import Distillation
from kvdistill.records.routing import ROUTING, RoutingRecord
from kvdistill.run.folder import COMPLETED
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from kvdistill.run.train import train
from kvdistill.teacher import CausalLMTeacher
from kvdistill.text import Batch
from kvdistill.training.checkpoint import newest_checkpoint
from pico_compare import close_run, curves, same_run, same_state, state, weights
from pico_routing import config_of, save_table
from pico_teachers import NUM, TASK, batch_of, encoded, live, run, save_teachers
from pico_training import distance

IDENTITY = {"adapter": {"kind": "identity"}}
# Well-conditioned, so that weights can be compared: a small penalty makes much of the last bit of a cache.
LEARNED = {"adapter": {"kind": "learned", "initial": "orthogonal"}}
CKA = {"layers": {"kind": "cka"}, "adapter": {"kind": "ridge", "penalties": [0.1]}}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The student's base model and two teachers that differ from it and from each other."""
    return save_teachers(tmp_path_factory.mktemp("models"))


def built(told: RunConfig) -> Distillation:
    """The step of a run before its calibration."""
    torch.manual_seed(0)
    student = build_student(told)
    step = step_model(told, student)
    assert isinstance(step, Distillation)
    return step


def gradients(step: Distillation) -> dict[str, Tensor]:
    """Gradients of the student."""
    return {
        name: parameter.grad.clone()
        for name, parameter in step.student.named_parameters()
        if parameter.grad is not None
    }


# One teacher.


@pytest.mark.parametrize("tuning", [{"kind": "full"}, {"kind": "lora", "r": 2, "alpha": 2, "dropout": 0.0}])
@pytest.mark.parametrize("delimiters", ["student", "both"])
def test_a_copy_through_the_identity_is_self_distillation(
    tuning: dict[str, Any], delimiters: str, models: dict[str, Path], tmp_path: Path
) -> None:
    """Losses and gradients, step by step; before each step the copy gets the student's weights."""
    latent = {"slots": 3, "passes": 2, "delimiters": delimiters}
    sections = {"latent": latent, "model": {"tuning": tuning}}
    own = built(run(models["base"], tmp_path / "own", {}, **sections | {"bridge": {"kind": "same"}}))
    own.student.save_pretrained(tmp_path / "start")
    teachers = {"copy": live(models["base"], **IDENTITY)}
    copied = built(run(models["base"], tmp_path / "copied", teachers, **sections))
    (teacher,) = copied.teachers
    assert isinstance(teacher, CausalLMTeacher)
    optimizers = [torch.optim.SGD(step.parameters(), 0.05) for step in (own, copied)]
    for index in range(4):
        backbone = deepcopy(copied.student.backbone).requires_grad_(False).eval()
        special = copied.student.special[:2]
        frozen = CausalLMTeacher(backbone, "copy", special if delimiters == "both" else None, "copy")
        copied.teachers = (frozen,)
        found = []
        for step, optimizer in zip((own, copied), optimizers, strict=True):
            optimizer.zero_grad()
            output = step(batch_of(step, encoded(step.student)), index, 0.0)
            output.loss.backward()
            found.append((output, gradients(step)))
            optimizer.step()
        (one, ours), (other, theirs) = found
        for name, value in one.metrics.items():
            torch.testing.assert_close(other.metrics[name], value, rtol=1e-6, atol=1e-6)
        assert float(one.metrics["kv"]) > 0
        assert ours.keys() == theirs.keys()
        for name, gradient in ours.items():
            most = 1e-6 * max(1.0, float(gradient.abs().max()))
            torch.testing.assert_close(
                theirs[name], gradient, rtol=1e-5, atol=most, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_a_teacher_of_weight_zero_is_not_there(models: dict[str, Path], tmp_path: Path) -> None:
    """Weights (1, 0) are that teacher alone, bit for bit; the other one is not loaded."""
    one, nowhere = live(models["bytes"]), live(tmp_path / "nowhere", weight=0.0)
    train(run(models["base"], tmp_path / "alone", {"a": one}))
    train(run(models["base"], tmp_path / "zero", {"a": one, "b": nowhere}))
    same_run(tmp_path / "alone", tmp_path / "zero")
    assert state(tmp_path / "alone").keys() == state(tmp_path / "zero").keys()


# Two teachers.


def test_two_copies_of_a_teacher_are_one(models: dict[str, Path], tmp_path: Path) -> None:
    one = live(models["bytes"])
    train(run(models["base"], tmp_path / "alone", {"a": one}))
    halves = {"a": one | {"weight": 0.5}, "b": one | {"weight": 0.5}}
    train(run(models["base"], tmp_path / "twice", halves))
    alone, twice = curves(tmp_path / "alone"), curves(tmp_path / "twice")
    assert alone.keys() == twice.keys()
    for name, row in alone.items():
        assert list(twice[name].values()) == pytest.approx(list(row.values()), abs=2e-6), name
    assert distance(weights(tmp_path / "alone"), weights(tmp_path / "twice")) < 1e-5


def test_permuted_teachers_are_permuted_weights(models: dict[str, Path], tmp_path: Path) -> None:
    """Neither the order nor the names matter, only which weight is whose."""
    words, letters = live(models["words"], weight=0.2), live(models["bytes"], weight=0.8)
    train(run(models["base"], tmp_path / "one", {"a": words, "b": letters}))
    train(run(models["base"], tmp_path / "other", {"b": words, "a": letters}))
    train(run(models["base"], tmp_path / "order", {"b": letters, "a": words}))
    swapped = {"a": words | {"weight": 0.8}, "b": letters | {"weight": 0.2}}
    train(run(models["base"], tmp_path / "swapped", swapped))
    same_run(tmp_path / "one", tmp_path / "other")
    same_run(tmp_path / "one", tmp_path / "order")
    assert curves(tmp_path / "one")["kv"] != curves(tmp_path / "swapped")["kv"]


# Batches.


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_sample_has_one_target_in_every_batch(side: str, models: dict[str, Path], tmp_path: Path) -> None:
    """Unlike tokenizers, padded beside others or alone, on either side."""
    teachers = {"words": live(models["words"], weight=0.3), "bytes": live(models["bytes"], weight=0.7)}
    step = built(run(models["base"], tmp_path / "run", teachers))
    with torch.no_grad():
        for parameter in step.bridge.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    samples = encoded(step.student, 5, Chain(names=5, steps=(2, 4), trace="verbose"))
    assert len({len(sample.teacher_mode.cot.ids) for sample in samples}) > 1
    together = target_of(step, batch_of(step, samples, side))
    for row, sample in enumerate(samples):
        alone = target_of(step, batch_of(step, [sample]))
        for many, one in zip(together.layers, alone.layers, strict=True):
            kept = one.mask[0]
            assert torch.equal(many.mask[row], kept)
            for name in ("keys", "values"):
                found, wanted = getattr(many, name)[row][kept], getattr(one, name)[0][kept]
                torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def target_of(step: Distillation, batch: Batch) -> ModelKV:
    """The target cache of a batch, M slots."""
    found: dict[str, Any] = {}
    step.on_stage = found.__setitem__
    step(batch, 0, 0.0)
    (pair,) = found["targets"]
    return pair.target


# Processes, kills, and what is needed afterwards.

FLOOR = CKA | {"adapter": {"kind": "learned", "initial": "orthogonal", "term": "variance_floor"}}


def both(models: dict[str, Path], output: Path, second: dict[str, Any] = CKA, **sections: Any) -> RunConfig:
    """A learned adapter, and a fitted one with a measured layer map."""
    told = {"words": LEARNED, "bytes": second}
    teachers = {name: live(models[name], **options) for name, options in told.items()}
    return run(models["base"], output, teachers, **sections)


def test_two_processes_equal_one_with_twice_the_batch(models: dict[str, Path], tmp_path: Path) -> None:
    """Learned adapters with the reconstruction term and with the variance floor, over a measured map."""
    pair = both(models, tmp_path / "two", FLOOR, training={"batch_size": 2})
    assert pico_process.together(lambda: train(pair), 2) == [0, 0]
    train(both(models, tmp_path / "one", FLOOR))
    close_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    "fusion", sampled([{"kind": "learnable", "per_layer": True}, {"kind": "similarity"}, {"kind": "draw"}])
)
def test_two_processes_route_as_one_with_twice_the_batch(
    fusion: dict[str, Any], models: dict[str, Path], tmp_path: Path
) -> None:
    """Statistics of the questions, the balance over the global batch, the router, held-out agreement."""
    task = {"names": 5, "steps": 4}
    held_out = {"kind": "synthetic", "num": 8, "split": "validation", "task": task}
    data = {"train": {"kind": "synthetic", "num": NUM, "task": task}, "validation": held_out}
    save_table(tmp_path, [*TASK.make(NUM, "train", 0), *TASK.make(8, "validation", 0)])

    def routed(output: str, batch_size: int) -> RunConfig:
        training = {"batch_size": batch_size, "eval_steps": 2, "output_dir": str(tmp_path / output)}
        return config_of(models, tmp_path, fusion, training=training, data=data)

    pair = routed("two", 2)
    assert pico_process.together(lambda: train(pair), 2) == [0, 0]
    train(routed("one", 4))
    tensors = close_run(tmp_path / "one", tmp_path / "two")
    if fusion["kind"] != "draw":  # it reads neither questions nor competence
        assert "step/fusion/norm.mean" in tensors
        assert {"route_agreement", "validation_route_agreement"} <= curves(tmp_path / "two").keys()
    one, two = (RoutingRecord.read(tmp_path / name / ROUTING) for name in ("one", "two"))
    assert one.best == two.best
    for ours, theirs in zip(one.weights, two.weights, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("streamed", sampled([True, False]))
def test_a_run_that_is_killed_ends_as_if_nothing_had_happened(
    streamed: bool, models: dict[str, Path], tmp_path: Path
) -> None:
    """Learned adapter, fitted adapter, measured layer map; and from a stream, with low-rank adapters."""
    sections: dict[str, Any] = {"training": {"save_steps": 2, "resume": True}}
    if streamed:
        file = tmp_path / "rows.jsonl"
        write_jsonl(TASK.make(NUM, "train", 0), file)
        sections["data"] = {"train": {"kind": "file", "path": str(file), "streaming": True}}
        sections["model"] = {"tuning": {"kind": "lora", "r": 2}}

    def work(output: Path) -> Callable[[], object]:
        return lambda: train(both(models, output, **sections))

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    work(whole)()
    killed = pico_process.killing(work(parts), "compute_loss begins", 4)
    assert pico_process.wait(pico_process.forked(killed)) == -9
    fitted = (parts / "calibration.json").read_bytes()
    assert pico_process.wait(pico_process.forked(work(parts))) == 0
    same_run(whole, parts)
    assert (parts / "calibration.json").read_bytes() == fitted
    assert any("words/aligner" in name for name in same_state(whole, parts))


def test_a_checkpoint_needs_no_teacher_and_a_resumed_run_needs_its_own(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """The student answers with the teachers' folders deleted; other weights in their place are refused."""
    mine = {name: shutil.copytree(path, tmp_path / name) for name, path in models.items()}
    told = both(mine, tmp_path / "run", training={"save_steps": 2, "resume": True})
    train(told)
    for path in mine.values():
        shutil.rmtree(path)
    student = weights(tmp_path / "run")
    record, _ = Evaluator(max_new_tokens=4).evaluate(student, encoded(student, 3), "latent", "test")
    assert record.num == 3
    (tmp_path / "run" / COMPLETED).unlink()
    newest = newest_checkpoint(tmp_path / "run")
    assert newest is not None
    shutil.rmtree(newest)
    for name, path in models.items():
        shutil.copytree(path, mine[name])
    changed = load_file(mine["bytes"] / "model.safetensors")
    save_file({name: value + 0.01 for name, value in changed.items()}, mine["bytes"] / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"^teachers\.bytes: its weights are not those that \S*run was begun"
    ):
        train(told)
