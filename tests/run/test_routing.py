"""Routing of a run: competence reaches the batch, routers learn from it, runs resume exactly, refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import pico_routing
import pico_teachers
from kvdistill.config import RunConfig, parse, resolved
from kvdistill.fuse.weights import RouteInputs
from kvdistill.run.routing import KnownCompetence, fit_routing, fusion_of, report_unknown, set_competence
from kvdistill.run.samples import Samples
from kvdistill.run.step import step_model
from kvdistill.run.student import starting_student
from kvdistill.run.train import train
from kvdistill.teacher.router_proto import PROTOTYPES
from kvdistill.training.callbacks import SaveWhen
from kvdistill.training.checkpoint import load_extra_state
from pico_routing import config_of, prepared, save_table
from pico_teachers import NUM


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return pico_teachers.save_teachers(tmp_path_factory.mktemp("routing"))


KINDS: list[dict[str, Any]] = [
    {"kind": "competence"},
    {"kind": "similarity"},
    {"kind": "similarity", "prototypes": "mean"},
    {"kind": "similarity", "prototypes": "kmeans", "clusters": 3, "metric": "l2"},
    {"kind": "learnable", "per_layer": True, "entropy": "specialized", "entropy_strength": 0.5},
    {"kind": "learnable", "router": {"kind": "gate"}},
    {"kind": "learnable", "router": {"kind": "attention"}},
]


@pytest.mark.parametrize("fusion", KINDS, ids=lambda fusion: "-".join(map(str, fusion.values()))[:40])
def test_a_step_weighs_by_question_and_is_saved(
    fusion: dict[str, Any], models: dict[str, Path], tmp_path: Path
) -> None:
    save_table(tmp_path)
    step, samples = prepared(config_of(models, tmp_path, fusion))
    batch = step.collate(samples[:6])
    assert batch.competence.shape == (6, 2)
    torch.testing.assert_close(batch.competence.sum(-1), torch.ones(6))
    output = step(batch, 0, 0.0)
    found = {name: float(value) for name, value in output.metrics.items()}
    assert found["weight_a"] + found["weight_b"] == pytest.approx(1, abs=1e-5)
    assert {"route_ce", "route_entropy", "route_agreement"} <= found.keys()
    assert torch.isfinite(output.loss)
    learned = [p for p in step.bridge.fusion.parameters() if p.requires_grad]
    if learned:
        output.loss.backward()
        assert any(p.grad is not None and p.grad.any() for p in learned)
    query = step.outputs_of(batch).question
    # The student is not trained through its query.
    assert (query is None) == (fusion["kind"] == "competence")
    assert query is None or not query.requires_grad
    other, _ = prepared(config_of(models, tmp_path, fusion))
    with torch.no_grad():
        for value in other.bridge.fusion.state_dict().values():
            value.add_(1.0)
    other.load_state(step.state())
    for one, two in zip(*(s.bridge.fusion.state_dict().values() for s in (step, other)), strict=True):
        assert torch.equal(one, two)


def test_a_step_with_lifted_teachers_weighs_their_losses(models: dict[str, Path], tmp_path: Path) -> None:
    save_table(tmp_path)
    bridge = {"kind": "lift", "projector": "trained"}
    step, samples = prepared(config_of(models, tmp_path, {"kind": "learnable"}, bridge=bridge))
    output = step(step.collate(samples[:6]), 0, 0.0)
    assert {"route_ce", "weight_a", "kv_layer0"} <= output.metrics.keys()
    output.loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in step.bridge.fusion.parameters())
    assert "ce" in step.validate(step.collate(samples[:6]))


def test_a_router_follows_the_competence_and_not_its_permutation(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """Trained alone on the step's own terms, the router gives each question to its better teacher."""
    save_table(tmp_path)
    step, samples = prepared(config_of(models, tmp_path, {"kind": "learnable"}))
    batch = step.collate(samples[:24])
    with torch.no_grad():
        _, caches = step.merged(batch, step.outputs_of(batch))
    before = step.bridge.routing_terms(caches).metrics
    optimizer = torch.optim.Adam(step.bridge.fusion.parameters(), 0.02)
    outputs = step.outputs_of(batch)
    for _ in range(40):
        with torch.no_grad():
            read = [teacher.cache(batch, outputs) for teacher in step.teachers]
        aligned, covered = step.bridge.align(read, batch.alignments)
        inputs = RouteInputs(outputs.question, batch.competence)
        routing = step.bridge.routing(["a", "b"], covered.any(-1), inputs)
        loss = step.bridge.fusion.terms(routing).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = step.bridge.routing_terms(step.merged(batch, outputs)[1]).metrics
    assert after["route_ce"] < before["route_ce"] - 0.05
    assert after["route_agreement"] > 0.9


def test_a_training_step_draws_by_its_number(models: dict[str, Path], tmp_path: Path) -> None:
    step, samples = prepared(config_of(models, tmp_path, {"kind": "draw"}))
    batch, found = step.collate(samples[:16]), {}
    step.on_stage = found.__setitem__
    drawn = []
    for number in (0, 1, 1):
        step(batch, number, 0.0)
        (fused,) = found["fused"]
        drawn.append(fused.routing.weights)
    assert torch.equal(drawn[1], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_a_run_with_a_router_resumes_exactly(models: dict[str, Path], tmp_path: Path) -> None:
    """So does the student that its questions are read by: the router would differ after step 2."""
    save_table(tmp_path)
    fusion = {"kind": "learnable", "router": {"kind": "gate"}}
    found = []
    for name, stops in (("whole", (4,)), ("parts", (2, 4))):
        for steps in stops:
            training = {"max_steps": 4, "save_steps": 2, "resume": True, "batch_size": 4}
            config = config_of(models, tmp_path, fusion, training=training)
            folder = tmp_path / name
            config = parse(
                resolved(config) | {"training": resolved(config)["training"] | {"output_dir": str(folder)}},
                "a test",
            )
            if steps == 2:
                with pytest.raises(KeyboardInterrupt):
                    _killed_at(config, 2)
            else:
                train(config)
        newest = sorted((tmp_path / name).glob("checkpoint-*"))[-1]
        found.append(load_extra_state(newest)[0])
    routers = [{k: v for k, v in state.items() if "/fusion/" in k} for state in found]
    assert routers[0]
    for name, value in routers[0].items():
        assert torch.equal(value, routers[1][name]), name
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert any("route_ce" in row for row in rows)
    assert any("weight_a" in row for row in rows)


def _killed_at(config: RunConfig, step: int) -> None:
    """Train, and stop after the checkpoint of a step."""
    original = SaveWhen.on_step_end

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step > step:
            raise KeyboardInterrupt
        original(self, args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SaveWhen, "on_step_end", stop)
        train(config)


def test_prototypes_of_another_student_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    save_table(tmp_path)
    config = config_of(models, tmp_path, {"kind": "similarity"})
    step, samples = prepared(config)
    fit = fit_routing(config, step, samples, None)
    assert fit is not None
    fit.write(tmp_path)
    again = config_of(models, tmp_path, {"kind": "similarity", "prototype_file": str(tmp_path)})
    other, _ = prepared(again)
    assert torch.equal(other.bridge.fusion.prototypes, step.bridge.fusion.prototypes)
    student = starting_student(again)
    with torch.no_grad():
        student.backbone.get_input_embeddings().weight.add_(0.1)
    changed = step_model(again, student)
    set_competence(again, changed)
    with pytest.raises(ValueError, match="another student"):
        fit_routing(again, changed, samples, None)
    assert (tmp_path / PROTOTYPES).is_file()


def test_only_the_chosen_figures_count(models: dict[str, Path], tmp_path: Path) -> None:
    """The table has nats of the chain alone: another figure leaves a question unknown."""
    save_table(tmp_path)
    found = {}
    for figure in ("cot_nats", "right"):
        fusion = {"kind": "competence", "competence_figures": [figure]}
        step, samples = prepared(config_of(models, tmp_path, fusion))
        found[figure] = sorted(step.competence(samples[0].example))
    # z-scores of 1 and -1: odds of exp(2).
    assert found["cot_nats"] == pytest.approx([0.119203, 0.880797], abs=1e-5)
    assert found["right"] == [0.0, 0.0]


def test_tables_of_other_teachers_or_data_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    config = config_of(models, tmp_path, {"kind": "learnable"})
    step = step_model(config, starting_student(config))
    with pytest.raises(ValueError, match="there is no table"):
        set_competence(config, step)
    save_table(tmp_path, names=("a", "c"))
    with pytest.raises(ValueError, match="no teacher b"):
        set_competence(config, step)
    save_table(tmp_path)
    set_competence(config, step)
    assert isinstance(step.competence, KnownCompetence)
    samples = Samples(config.data, step.student, tmp_path).read(config.data.train)
    said: list[str] = []
    strange = replace(samples[0], example=replace(samples[0].example, question="another"))
    report_unknown(step, [samples[0], strange], "training", said.append)
    assert "1 of 2 training questions" in said[0]
    known = pico_routing.known(pico_routing.examples(NUM))
    assert known(samples[0].example) != [0.0, 0.0]
    assert known(strange.example) == [0.0, 0.0]
    with pytest.raises(ValueError, match="made for other data"):
        report_unknown(step, [strange], "training", said.append)
    assert fusion_of(step) is not None
