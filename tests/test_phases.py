"""Phases 1, 2 and 4 from their shipped configurations, with tiny models: killed and resumed, bit for bit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pico_process
import pico_trained
from kvdistill.config import RunConfig, load
from kvdistill.data import Chain, write_jsonl
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.routing import ROUTING, RoutingRecord
from kvdistill.records.traces import SamplesReport
from kvdistill.run.train import train
from kvdistill.teacher.router_proto import PROTOTYPES
from pico_compare import curves, same_run, same_state
from pico_students import save_base

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "configs"
SHORT = {
    "training.max_steps": 4,
    "training.save_steps": 2,
    "training.eval_steps": 2,
    "training.logging_steps": 1,
    "training.batch_size": 4,
    "training.warmup_steps": 0,
    "training.save_total_limit": None,
    "training.report": False,
    "training.tensorboard": False,
    "training.progress": False,
    "training.resume": True,
    "evaluation.modes": ["latent"],
    "evaluation.max_new_tokens": 6,
}
"""Options that shrink a shipped run; what makes it its phase stays."""
Options = dict[str, object]


def shrunk(name: str, output: Path, options: Options) -> RunConfig:
    """A shipped configuration with some options changed."""
    words = []
    for option, value in {**SHORT, "training.output_dir": str(output), **options}.items():
        words += [f"--{option}", json.dumps(value)]
    return load(FOLDER / f"{name}.toml", words)


def killed_and_resumed(folder: Path, config: Callable[[Path], RunConfig]) -> tuple[Path, Path]:
    """Two folders: of a run without a break, and of the same run killed after its first checkpoint."""
    whole, parts = folder / "whole", folder / "parts"
    train(config(whole))
    killed = pico_process.killing(lambda: train(config(parts)), "compute_loss begins", 4)
    assert pico_process.wait(pico_process.forked(killed)) == -9
    train(config(parts))
    assert json.loads((parts / "run.json").read_text())["resumes"] == 1
    same_run(whole, parts)
    assert float(max(curves(whole)["kv"].values())) > 0
    return whole, parts


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with the words of phase 1's task."""
    folder = tmp_path_factory.mktemp("copied")
    return str(save_base(folder / "base", list(Chain(names=8, steps=4).words())))


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student, two teachers that answer right, more or less surely, and rows of their questions."""
    folder = tmp_path_factory.mktemp("writers")
    pico_trained.student(seed=1).save_pretrained(folder / "student")
    pico_trained.trained().save_pretrained(folder / "sure")
    noisy(0.05).save_pretrained(folder / "unsure")
    known = pico_trained.examples()
    more = [replace(each, question=f"please {each.question}") for each in known]
    for name, rows in (("train", [*known, *more[:20]]), ("validation", more[20:28]), ("test", more[28:])):
        write_jsonl(rows, folder / f"{name}.jsonl")
    return folder


def noisy(share: float) -> LatentReasoner:
    """The trained student with noise on its weights, relative to the size of each tensor."""
    model = pico_trained.trained()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.std() * share)
    return model


def written(folder: Path) -> Options:
    """Options of a run on the rows of ``writers``."""
    files = {
        f"data.{role}": {"kind": "file", "path": str(folder / f"{role}.jsonl")}
        for role in ("train", "validation", "test")
    }
    return {
        **files,
        "model.name": str(folder / "student"),
        "latent.slots": 2,
        "latent.passes": 2,
        "sampling.max_new_tokens": 8,
        "sampling.temperature": 2.0,
        "sampling.top_p": 1.0,
    }


@pytest.mark.parametrize("match", ["nearest", "soft"])
def test_phase_1_two_prompts(match: str, copied: str, tmp_path: Path) -> None:
    numbers = {"train": 24, "validation": 8, "test": 4}
    options: Options = {f"data.{role}.num": number for role, number in numbers.items()}
    options |= dict.fromkeys(("model.name", "teachers.verbose.name", "teachers.terse.name"), copied)
    options["bridge.match.kind"] = match

    whole, parts = killed_and_resumed(tmp_path, lambda output: shrunk("phase1_dual_prompt", output, options))
    assert any(name.startswith("step/verbose/") for name in same_state(whole, parts))
    assert {"validation_kv", "kv"} <= curves(whole).keys()


def test_phase_2_two_chains_of_one_model(writers: Path, tmp_path: Path) -> None:
    """Each of the two runs samples its chains itself."""

    def config(output: Path) -> RunConfig:
        options = written(writers) | {"sampling.num_samples": 6}
        for name in ("first", "second"):
            options[f"teachers.{name}.name"] = str(writers / "unsure")
            options[f"teachers.{name}.traces"] = str(output / "samples")
        return shrunk("phase2_multi_sample", output, options)

    whole, parts = killed_and_resumed(tmp_path, config)
    same_state(whole, parts)
    lines = [(folder / "samples" / "samples.jsonl").read_bytes() for folder in (whole, parts)]
    assert lines[0] == lines[1]
    report = SamplesReport.read(whole / "samples" / "samples.json")
    assert report.share_with_two_right > 0.2
    assert report.gold_overlap < 1


FUSIONS: dict[str, Options] = {
    "learnable": {"fusion.router.kind": "mlp", "fusion.per_layer": True},
    "similarity": {"fusion.kind": "similarity"},
}


@pytest.mark.parametrize("kind", FUSIONS)
def test_phase_4_routing(kind: str, writers: Path, tmp_path: Path) -> None:
    """Chains and competence are made by the first run, and shared by the others."""
    made = writers / "made"
    options = written(writers) | {"fusion.competence": str(made / "competence")}
    for name, model in (("a", "sure"), ("b", "unsure")):
        options[f"teachers.{name}.name"] = str(writers / model)
        options[f"teachers.{name}.traces"] = str(made / name)
    options |= {"sampling.num_samples": 4, **FUSIONS[kind]}

    whole, parts = killed_and_resumed(tmp_path, lambda output: shrunk("phase4_routing", output, options))
    tensors = same_state(whole, parts)
    learned = {"learnable": "step/fusion/router.", "similarity": "step/fusion/prototypes"}
    assert any(name.startswith(learned[kind]) for name in tensors)
    assert {"route_ce", "weight_a", "validation_route_agreement"} <= curves(whole).keys()
    record = RoutingRecord.read(whole / ROUTING)
    assert record == RoutingRecord.read(parts / ROUTING)
    assert len(record.weights) == 8
    assert len({tuple(row) for row in record.weights}) > 1, "every question has weights of its own"
    assert (record.layers is not None) == (kind == "learnable")
    assert (whole / PROTOTYPES).exists() == (kind == "similarity")
    if kind == "similarity":
        assert (whole / PROTOTYPES).read_bytes() == (parts / PROTOTYPES).read_bytes()
