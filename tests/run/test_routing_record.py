"""``routing.json``: weights and best teachers by hand, a sample without a teacher, a run that was cut off."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kvdistill.data import encode_all
from kvdistill.data.keys import question_key
from kvdistill.kv import Routing
from kvdistill.records.routing import ROUTING, RoutingRecord
from kvdistill.records.schema import Metrics
from kvdistill.run.folder import COMPLETED
from kvdistill.run.routing_record import best_teachers, routing_record
from kvdistill.run.student import template_of
from kvdistill.run.train import train
from pico_routing import better, config_of, prepared, save_table
from pico_teachers import TASK, live, run, save_teachers


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_teachers(tmp_path_factory.mktemp("routing_record"))


def test_the_best_teacher_by_hand() -> None:
    """A clear one, a tie that the weight decides, no figures, and no teacher."""
    competence = torch.tensor([[0.3, 0.7], [0.5, 0.5], [0.0, 0.0], [0.0, 0.0]])
    weights = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.0, 0.0]])
    assert best_teachers(Routing(weights, competence), "ab") == ["b", "b", None, None]
    # Mean over the two layers: .55 and .45.
    layers = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]])
    assert best_teachers(Routing(layers, competence[1:2]), "ab") == ["a"]
    assert best_teachers(Routing(weights), "ab") == [None] * 4


def test_a_record_holds_what_the_fusion_weighs(models: dict[str, Path], tmp_path: Path) -> None:
    save_table(tmp_path)
    step, samples = prepared(config_of(models, tmp_path, {"kind": "learnable", "per_layer": True}))
    tokenizer = step.student.tokenizer
    bare = replace(samples[0].example, steps=())
    (without,) = encode_all([bare], tokenizer, template_of(step.student)).samples
    with torch.no_grad():
        # Weights that differ between questions, layers and teachers.
        for value in step.bridge.fusion.router.parameters():
            torch.nn.init.normal_(value)
    record = routing_record(step, [*samples[:5], without])
    assert record.teachers == ["a", "b"]
    assert record.sample_ids[:5] == [question_key(sample.example) for sample in samples[:5]]
    assert record.weights[5] == [0, 0]
    assert record.best[5] is None
    assert record.best[:5] == ["ab"[better(sample.example)] for sample in samples[:5]]
    assert len(set(record.best)) == 3
    step.eval()
    batch = step.collate(samples[:5])
    with torch.no_grad():
        _, (fused,) = step.merged(batch, step.outputs_of(batch))
    by_layer = fused.routing.weights
    assert by_layer[:, 0].sub(by_layer[:, 1]).abs().max() > 0.01
    torch.testing.assert_close(torch.tensor(record.weights[:5]), by_layer.mean(1), rtol=0, atol=2e-6)
    assert record.layers is not None
    torch.testing.assert_close(torch.tensor(record.layers), by_layer.mean(0), rtol=0, atol=2e-6)
    assert record.agreement == pytest.approx(float(step.validate(batch)["route_agreement"]))


def test_a_run_writes_its_record_and_again_where_it_was_cut_off_after_its_last_step(
    models: dict[str, Path], tmp_path: Path
) -> None:
    task = {"names": 5, "steps": 4}
    data = {"train": {"kind": "synthetic", "num": 20, "task": task}}
    data["validation"] = {"kind": "synthetic", "num": 12, "task": task, "split": "validation"}
    save_table(tmp_path, [*TASK.make(20, "train", 0), *TASK.make(12, "validation", 0)])
    training = {"resume": True, "lr": 0.05, "max_steps": 3, "eval_steps": 3}
    config = config_of(models, tmp_path, {"kind": "learnable"}, data=data, training=training)
    train(config)
    folder = tmp_path / "run"
    written = (folder / ROUTING).read_bytes()
    record = RoutingRecord.read(folder / ROUTING)
    assert len(record.weights) == 12
    logged = Metrics(folder / "metrics.jsonl").series()
    assert logged["validation_route_agreement"][3] == pytest.approx(record.agreement, abs=1e-6)
    mean = sum(row[0] for row in record.weights) / 12
    assert logged["validation_weight_a"][3] == pytest.approx(mean, abs=1e-4)
    for name in (ROUTING, COMPLETED):
        (folder / name).unlink()
    train(config)
    assert (folder / ROUTING).read_bytes() == written


def test_constant_weights_leave_no_record(models: dict[str, Path], tmp_path: Path) -> None:
    two = {"a": live(models["words"]), "b": live(models["bytes"])}
    train(run(models["base"], tmp_path / "run", two, training={"max_steps": 1}))
    assert (tmp_path / "run" / COMPLETED).is_file()
    assert not (tmp_path / "run" / ROUTING).exists()
