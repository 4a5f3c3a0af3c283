"""Two runs side by side: what they logged, their students, and what their checkpoints hold of the step."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.schema import Metrics
from kvdistill.training.checkpoint import load_extra_state, newest_checkpoint
from pico_training import distance

TIMED = {"train_runtime", "train_samples_per_second", "train_steps_per_second"}


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """What a run logged, but for what depends on the clock: name -> step -> value."""
    found = Metrics(folder / "metrics.jsonl").series()
    return {name: row for name, row in found.items() if name not in TIMED}


def weights(folder: Path) -> LatentReasoner:
    """The student of the newest checkpoint."""
    newest = newest_checkpoint(folder)
    assert newest is not None
    return LatentReasoner.from_pretrained(newest)


def state(folder: Path) -> dict[str, Tensor]:
    """What the newest checkpoint holds of the step: adapters, layer maps, scale, router, prototypes."""
    newest = newest_checkpoint(folder)
    assert newest is not None
    tensors, _ = load_extra_state(newest)
    return {name: value for name, value in tensors.items() if name.startswith("step/")}


def same_run(one: Path, other: Path) -> None:
    """Bit for bit: losses, and weights."""
    assert curves(one) == curves(other)
    assert distance(weights(one), weights(other)) == 0


def same_state(one: Path, other: Path) -> dict[str, Tensor]:
    """Bit for bit: what the checkpoints hold of the step, which is returned."""
    ours, theirs = state(one), state(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    return ours


def close_run(one: Path, other: Path) -> dict[str, Tensor]:
    """But for the order of sums: losses, weights, and the state of the step, which is returned."""
    ours, theirs = curves(one), curves(other)
    assert ours.keys() == theirs.keys()
    # The range inside a batch depends on the batch.
    for name in (name for name in ours if not name.endswith(("_min", "_max"))):
        assert list(theirs[name].values()) == pytest.approx(list(ours[name].values()), abs=2e-4), name
    assert distance(weights(one), weights(other)) < 1e-5
    tensors, others = state(one), state(other)
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(others[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    return tensors
