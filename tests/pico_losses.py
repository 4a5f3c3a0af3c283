"""Losses on caches and outputs that a test makes by hand."""

import torch

from kvdistill.kv import KVPair, LabelRows, LossOutput, ModelKV, ModelOutput, TwoModes
from kvdistill.losses import CachedFrame, Loss, LossInputs, Objective


def output_of(kv: ModelKV) -> ModelOutput:
    """An output that holds a cache and nothing else."""
    nothing = torch.zeros(0, dtype=torch.long)
    rows = LabelRows(torch.zeros(0, 2), nothing, nothing, nothing.bool())
    return ModelOutput(kv, rows, torch.zeros(len(kv.layers[0].keys), 1, 1))


def compare(
    loss: Loss | Objective,
    target: ModelKV | ModelOutput | TwoModes,
    student: ModelKV | ModelOutput | None,
    frame: CachedFrame | None = None,
    layer_weights: torch.Tensor | None = None,
) -> LossOutput:
    """A loss between what is given: two caches, two outputs, a cache and an output, or both modes and a target."""
    if isinstance(target, TwoModes):
        assert not isinstance(student, ModelOutput)
        pairs = () if student is None else (KVPair(student, target.student.kv),)
        return loss(LossInputs(target, pairs, frame))
    assert student is not None
    teacher = target if isinstance(target, ModelOutput) else output_of(target)
    ours = student if isinstance(student, ModelOutput) else output_of(student)
    pair = KVPair(teacher.kv, ours.kv, layer_weights)
    return loss(LossInputs(TwoModes(teacher, ours), (pair,), frame))
