"""Losses on caches and outputs that a test makes by hand."""

from dataclasses import replace

import torch
from torch import Tensor

import pico
from kvdistill.kv import (
    KVPair,
    LabelRows,
    LayerKV,
    LossOutput,
    ModelKV,
    ModelOutput,
    SlotStates,
    TwoModes,
)
from kvdistill.losses import CachedFrame, Loss, LossInputs, Objective
from kvdistill.text import ReaderBatch


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
    """A loss between two caches, two outputs, a cache and an output, or both modes and a target."""
    if isinstance(target, TwoModes):
        assert not isinstance(student, ModelOutput)
        pairs = () if student is None else (KVPair(student, target.student.kv),)
        return loss(LossInputs(target, pairs, frame))
    assert student is not None
    teacher = target if isinstance(target, ModelOutput) else output_of(target)
    ours = student if isinstance(student, ModelOutput) else output_of(student)
    pair = KVPair(teacher.kv, ours.kv, layer_weights)
    return loss(LossInputs(TwoModes(teacher, ours), (pair,), frame))


def cache(batch: int = 2, slots: int = 3, grad: bool = False) -> ModelKV:
    def layer() -> LayerKV:
        keys, values = (
            torch.randn(batch, 2, slots, 4, requires_grad=grad),
            torch.randn(batch, 2, slots, 5, requires_grad=grad),
        )
        positions = torch.arange(slots).expand(batch, 2, slots)
        return LayerKV(
            keys,
            values,
            torch.ones(batch, 2, slots, dtype=torch.bool),
            positions,
            importance=torch.rand(batch, 2, slots),
        )

    return ModelKV((layer(), layer()), (0, 1), "test")


def rows(logits: Tensor, labels: list[int], sample: list[int]) -> LabelRows:
    return LabelRows(
        logits, torch.tensor(labels), torch.tensor(sample), torch.ones(len(labels), dtype=torch.bool)
    )


def mode(batch: int = 2, grad: bool = False) -> ModelOutput:
    labels = rows(torch.randn(5, 7), [0, 1, 2, 3, 4], [0, 0, 1, 1, 1] if batch == 2 else [0] * 5)
    attention = tuple(torch.rand(batch, 2, 3).softmax(-1) for _ in range(2))
    return ModelOutput(
        kv=cache(batch, grad=grad), rows=labels, hidden=torch.randn(batch, 3, 6), attention=attention
    )


def reading(ids: list[list[int]], steps: list[list[int]], side: str = "right") -> ReaderBatch:
    """What teacher mode read, of which only the chains of thought and their steps matter."""
    nothing = pico.pad([()] * len(ids))
    cot = pico.pad([tuple(row) for row in ids], side)
    step = torch.where(cot.mask, pico.pad([tuple(row) for row in steps], side).ids, -1)
    parts = dict.fromkeys(("question", "cue", "prompt", "answer"), nothing)
    read = pico.reader_batch(**parts, cot=cot)
    return replace(read, step=step)


def with_slots(logits: Tensor, read: ReaderBatch) -> LossInputs:
    """Inputs of a loss that reads slots, of which only the logits (B, M + 1, C) are given."""
    student = replace(mode(len(logits)), slots=SlotStates(torch.zeros(*logits.shape[:2], 1), logits))
    return LossInputs(TwoModes(mode(len(logits)), student), read=read)
