"""``routing.json`` of a run: the weights of its teachers at the end of training, on validation samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kvdistill.capture.attention import evaluating
from kvdistill.data.keys import question_key
from kvdistill.fuse.entropy import teacher_weights, with_teacher
from kvdistill.kv import Routing
from kvdistill.pipeline import Distillation
from kvdistill.records.routing import ROUTING, RoutingRecord
from kvdistill.run.gathering import chunks
from kvdistill.run.routing import fusion_of
from kvdistill.text import Encoded

TIED = 1e-6
"""Difference below which two teachers count as equally competent."""
DIGITS = 6
"""Decimals of a weight in the file."""


def write_routing(step: Any, samples: Sequence[Encoded], folder: Path) -> None:
    """Write ``routing.json`` into a run folder; nothing where the weights are constants.

    Args:
        step: the training step after the last optimizer step.
        samples: the validation samples whose losses are measured; without any nothing is written.
        folder: the run folder.
    """
    if not samples or not isinstance(step, Distillation) or fusion_of(step) is None:
        return
    routing_record(step, samples).write(folder / ROUTING)


def routing_record(step: Distillation, samples: Sequence[Encoded]) -> RoutingRecord:
    """Measure the weights of the teachers.

    Args:
        step: the training step, with a fusion whose weights depend on the sample.
        samples: samples with any chains of thought.

    Returns:
        The record; for every sample its weights, and its best teacher of those that cover it.
    """
    names = [teacher.name for teacher in step.teachers]
    found = [_routing(step, some) for some in chunks(samples)]
    weights = torch.cat([each.weights for each in found])
    layers = None
    if weights.ndim == 3:
        # (B, L, E) -> (L, E), over the samples that a teacher covers
        layers = _rounded(weights[with_teacher(weights)].mean(0).nan_to_num())
    return RoutingRecord(
        teachers=names,
        sample_ids=[question_key(sample.example) for sample in samples],
        weights=_rounded(teacher_weights(weights)),
        layers=layers,
        best=[name for each in found for name in best_teachers(each, names)],
    )


def best_teachers(routing: Routing, names: Sequence[str]) -> list[str | None]:
    """The most competent teacher of each sample.

    Args:
        routing: weights and competence of B samples, over the teachers that cover them.
        names: E short names.

    Returns:
        B names; of equally competent teachers the one with the largest weight. None where the competence is
        not known, or no teacher covers the sample.
    """
    competence, weights = routing.competence, teacher_weights(routing.weights)
    if competence is None:
        return [None] * len(weights)
    tied = competence >= competence.amax(-1, keepdim=True) - TIED
    columns = torch.where(tied, weights, -1.0).argmax(-1)
    known = (competence.sum(-1) > 0) & with_teacher(weights)
    found: list[str | None] = []
    for column, is_known in zip(columns.tolist(), known.tolist(), strict=True):
        name = None
        if is_known:
            name = names[int(column)]
        found.append(name)
    return found


def _routing(step: Distillation, samples: Sequence[Encoded]) -> Routing:
    """The weights of some samples as in training, on the CPU."""
    batch = step.collate(samples).to(step.student.device)
    with evaluating(step), torch.no_grad():
        _, (fused,) = step.merged(batch, step.outputs_of(batch))
    routing = fused.routing
    assert routing is not None
    competence = None
    if routing.competence is not None:
        competence = routing.competence.cpu()
    return Routing(routing.weights.cpu(), competence)


def _rounded(weights: Tensor) -> list[list[float]]:
    return [[round(value, DIGITS) for value in row] for row in weights.tolist()]
