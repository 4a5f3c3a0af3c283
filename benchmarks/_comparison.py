"""What two runs left, compared value by value: metrics, tensors of checkpoints, evaluations."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from kvdistill.records.renamed import METRICS, present_names

WEIGHTS, OPTIMIZER, RANDOM, STATE = "model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"
TIMES = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "ms_batch1", "ms_batch32")
PATHS = ("source", "answers")
"""Fields of records that name files."""


class Comparison(NamedTuple):
    """Whether something is the same in two runs."""

    name: str
    equal: bool
    note: str
    """How much was compared, or the first difference."""


def compare_runs(name: str, now: Path, then: Path) -> Iterator[Comparison]:
    """Metrics, every checkpoint and every evaluation of a run."""
    yield compare_values(f"{name}: metrics", read_metrics(now), read_metrics(then))
    ours, theirs = checkpoint_names(now), checkpoint_names(then)
    yield compare_values(f"{name}: checkpoints", dict.fromkeys(ours), dict.fromkeys(theirs))
    for checkpoint in (each for each in ours if each in theirs):
        yield from compare_checkpoints(f"{name}, {checkpoint}", now / checkpoint, then / checkpoint)
    yield from compare_records(name, now, then, needed=False)


def compare_checkpoints(name: str, now: Path, then: Path) -> Iterator[Comparison]:
    """Weights by name, optimizer state in its order, further state as a set, and random number generators."""
    yield _compare(f"{name}: weights", now, then, read_weights)
    yield _compare(f"{name}: optimizer", now, then, read_optimizer)
    yield _compare(f"{name}: random numbers", now, then, lambda folder: file_hashes(folder, RANDOM))
    extra_state = read_extra_state(now), read_extra_state(then)
    if any(extra_state):
        yield compare_values(f"{name}: further state", *extra_state)


def compare_records(name: str, now: Path, then: Path, needed: bool = True) -> Iterator[Comparison]:
    """Evaluations, answers, curves and probes in two folders, without times and paths.

    Args:
        name: what the comparison is called.
        now: a folder.
        then: the other one.
        needed: whether having none at all is a difference.
    """
    ours, theirs = read_records(now), read_records(then)
    if needed or ours or theirs:
        yield compare_values(f"{name}: evaluations", ours, theirs)


def compare_values(name: str, now: dict[Any, Any], then: dict[Any, Any]) -> Comparison:
    """Whether two dictionaries are the same and not empty."""
    if not now and not then:
        return Comparison(name, False, "there is nothing to compare")
    for key in [*then, *now]:
        if key not in now:
            return Comparison(name, False, f"{_shown(key)} is missing now")
        if key not in then:
            return Comparison(name, False, f"{_shown(key)} was missing then")
        if now[key] != then[key]:
            return Comparison(name, False, f"{_shown(key)} is {now[key]}, was {then[key]}"[:300])
    return Comparison(name, True, f"{len(now)} values")


def read_metrics(run: Path) -> dict[tuple[int, str], float | None]:
    """Step and name -> value, without times; of a step that a resumed run logged again, the later value."""
    values: dict[tuple[int, str], float | None] = {}
    path = run / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        row = present_names(json.loads(line), METRICS)
        values |= {(row["step"], name): value for name, value in row.items() if name not in ("step", *TIMES)}
    return values


def checkpoint_names(run: Path) -> list[str]:
    """Names of the complete checkpoints."""
    return sorted(path.parent.name for path in run.glob(f"checkpoint-*/{STATE}"))


def read_weights(checkpoint: Path) -> dict[str, str]:
    """Name -> hash of each tensor of the student."""
    return {name: tensor_hash(value) for name, value in load_file(checkpoint / WEIGHTS).items()}


def read_optimizer(checkpoint: Path) -> dict[str, str]:
    """Place and name -> hash of each tensor of the optimizer, in the order of its parameters."""
    state = torch.load(checkpoint / OPTIMIZER, map_location="cpu", weights_only=True)["state"]
    return {
        f"parameter {place}, {name}": tensor_hash(torch.as_tensor(value))
        for place, index in enumerate(sorted(state))
        for name, value in sorted(state[index].items())
        if value is not None
    }


def read_extra_state(checkpoint: Path) -> dict[str, int]:
    """Hash -> how often, of the tensors beside the student, under whatever names; numbers kept for the log
    do not count.
    """
    counts: dict[str, int] = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        if path.name != WEIGHTS:
            for value in load_file(path).values():
                if value.dim() > 0:
                    digest = tensor_hash(value)
                    counts[digest] = counts.get(digest, 0) + 1
    return counts


def read_records(folder: Path) -> dict[tuple[str, str], Any]:
    """File and field -> value of the records in a folder; file and line of the answers."""
    values: dict[tuple[str, str], Any] = {}
    for pattern in ("evaluation_*.json", "curve_*.json", "probes.json"):
        for path in sorted(folder.glob(pattern)):
            record = json.loads(path.read_text(encoding="utf-8"))
            kept = {name: value for name, value in record.items() if name not in (*TIMES, *PATHS)}
            values |= {(path.name, name): value for name, value in kept.items()}
    for path in sorted(folder.glob("evaluation_*.answers.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        values |= {(path.name, f"line {number}"): line for number, line in enumerate(lines, start=1)}
    return values


def file_hashes(folder: Path, name: str) -> dict[str, str]:
    """Name -> hash of a file's bytes."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()}


def tensor_hash(tensor: Tensor) -> str:
    """sha256 of type, shape and bytes."""
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)} ".encode())
    digest.update(plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return digest.hexdigest()


def _compare(name: str, now: Path, then: Path, read: Callable[[Path], dict[Any, Any]]) -> Comparison:
    try:
        ours, theirs = read(now), read(then)
    except FileNotFoundError as error:
        return Comparison(name, False, f"{error.filename or error} is missing")
    found = compare_values(name, ours, theirs)
    if not found.equal and sorted(ours.values()) == sorted(theirs.values()):
        return found._replace(note=f"the same tensors in another order: {found.note}")
    return found


def _shown(key: Any) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
