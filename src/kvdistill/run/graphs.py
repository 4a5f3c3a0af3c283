"""CUDA graphs of a run: when they are used, and batches of few shapes for them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from kvdistill.config import RunConfig
from kvdistill.config.graphs import pad_width
from kvdistill.data.pad_to_multiple import pad_to_multiple
from kvdistill.training.cuda_graphs import StepGraphs
from kvdistill.training.ranks import Ranks
from kvdistill.training_step import TrainingStep

Collate = Callable[[Any], dict[str, Any]]


def use_graphs(
    config: RunConfig, step: TrainingStep, device: torch.device, ranks: Ranks, say: Callable[[str], None]
) -> None:
    """Compute a step from CUDA graphs where the configuration asks for it and the run is on a GPU.

    Args:
        config: the run's configuration.
        step: the training step; its forward pass is replaced.
        device: where it trains.
        ranks: the processes of the run.
        say: writes a notice.

    Raises:
        ValueError: if several processes train.
    """
    if not config.training.cuda_graphs:
        return
    if ranks.size > 1:
        raise ValueError(
            f"training.cuda_graphs works in one process, and {ranks.size} train here: set it to false"
        )
    if device.type != "cuda":
        say(f"training.cuda_graphs has no effect: the run is on {device.type}")
        return
    step.forward = StepGraphs(step, begin=config.target.anneal_layers)


def padded(config: RunConfig, collate: Collate) -> Collate:
    """A collate function whose batches have widths of a multiple, where the configuration asks for it.

    Args:
        config: the run's configuration.
        collate: gives a dictionary with a ``batch``.
    """
    width = pad_width(config)
    if width == 1:
        return collate
    return partial(_padded, collate=collate, width=width)


def _padded(samples: Any, collate: Collate, width: int) -> dict[str, Any]:
    found = collate(samples)
    return found | {"batch": pad_to_multiple(found["batch"], width)}
