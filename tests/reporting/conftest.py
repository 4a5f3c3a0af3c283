"""Synthetic studies: run folders written from records."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from kvdistill.records.schema import EvaluationRecord, Metrics, RunRecord

OPTIONS: dict[str, dict[str, Any]] = {
    "E1": {"loss.kv_weight": 0.0},
    "E2": {"target.method": {"kind": "full"}},
    "E3": {"target.method": {"kind": "right_crop"}},
    "E4": {},
    "E5": {"target.control": {"kind": "shuffled", "seed": 0}},
    "direct": {"training.task": "direct"},
    "CoT": {"training.task": "cot"},
}
"""What the configuration of each experiment says beside ``CONFIG``, which is E4's."""
CONFIG: dict[str, Any] = {
    "model": {"name": "outputs/warm/seed{seed}/checkpoint-ep3", "dtype": "float32"},
    "data": {
        "train": {"kind": "synthetic", "num": 512, "seed": 0},
        "test": {"kind": "synthetic", "num": 1000},
    },
    "latent": {"slots": 4, "passes": 4},
    "target": {
        "method": {"kind": "rkv", "importance_weight": 0.1},
        "control": {"kind": "none"},
        "anneal_layers": 0.5,
    },
    "loss": {
        "codi_weight": 1.0,
        "kv_weight": "auto",
        "attention_weight": 0.0,
        "kv": {"distance": "mse", "axis": "slots"},
    },
    "training": {
        "task": "latent",
        "epochs": 4.0,
        "max_steps": -1,
        "batch_size": 64,
        "lr": 1e-3,
        "seed": 0,
        "output_dir": "outputs/run",
    },
}
RISE = (0.25, 0.5, 0.75, 1.0)
"""Validation accuracy on the way, as shares of the test accuracy, every 100 steps."""

Write = Callable[..., Path]


def config_of(experiment: str, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    config = deepcopy(CONFIG)
    seeds = {"training.seed": seed, "model.name": CONFIG["model"]["name"].format(seed=seed)}
    for name, value in (seeds | OPTIONS[experiment] | dict(options)).items():
        *parents, last = name.split(".")
        section = config
        for parent in parents:
            section = section[parent]
        section[last] = value
    return config


def fill_run(
    folder: Path, experiment: str, accuracy: float | None, rise: tuple[float, ...] = RISE, **options: Any
) -> Path:
    """A run folder; ``accuracy`` None leaves it unfinished. Options are of the configuration with ``__`` for
    dots, ``seed``, and ``measured``: further fields of the evaluation.
    """
    measured = options.pop("measured", {})
    seed = options.pop("seed", None)
    seed = int(folder.name.removeprefix("seed")) if seed is None else seed
    started = options.pop("started", "2026-01-02T03:04:05+00:00")
    config = config_of(experiment, seed, {name.replace("__", "."): value for name, value in options.items()})
    RunRecord(
        config=config,
        versions={"kvdistill": "0.1.0", "python": "3.11.7"},
        commit="0123abc",
        seed=seed,
        hardware="CPU, 2 cores",
        started=started,
        seconds=None if accuracy is None else 90.0,
        command=f"kvdistill train --config {experiment}.toml --training.seed {seed}",
    ).write(folder / "run.json")
    for place, share in enumerate(rise, start=1):
        terms = {"ce_student": 2 / place, "ce_teacher": 1 / place, "codi": 0.5 / place}
        if config["training"]["task"] == "latent" and config["loss"]["kv_weight"] != 0:
            terms |= {"kv": 0.8 / place, "kv_weight": 2.0 + seed / 100} | (
                {"kv_lower_bound": 0.125} if experiment == "E2" else {}
            )
        values = terms | {
            "validation_accuracy": share * (0.5 if accuracy is None else accuracy),
            "epoch": float(place),
        }
        Metrics(folder / "metrics.jsonl").append_row(100 * place, values)
    if accuracy is not None:
        mode = config["training"]["task"]
        EvaluationRecord(
            data_set="test",
            mode=mode,
            num=1000,
            correct=round(1000 * accuracy),
            sequential_passes_mean=7.5,
            tokens_mean=27.0,
            ms_batch1=None,
            ms_batch32=None,
            **measured,
        ).write(folder / f"evaluation_test_{mode}.json")
        (folder / "TRAINING_COMPLETED.txt").write_text("done\n")
    return folder


@pytest.fixture
def write_run() -> Write:
    """Writes a run folder: ``write_run(folder, experiment, accuracy, rise, **options)``."""
    return fill_run


@pytest.fixture
def write_study(write_run: Write) -> Callable[..., Path]:
    """Writes a study: ``write_study(folder, {"E1": [accuracy of seed 0, of seed 1, ...], ...}, {"E2":
    rise})``.
    """

    def write(
        folder: Path,
        accuracies: Mapping[str, list[float]],
        rises: Mapping[str, tuple[float, ...]] | None = None,
    ) -> Path:
        for experiment, values in accuracies.items():
            for seed, accuracy in enumerate(values):
                write_run(
                    folder / experiment.replace(" ", "_") / f"seed{seed}",
                    experiment,
                    accuracy,
                    (rises or {}).get(experiment, RISE),
                )
        return folder

    return write
