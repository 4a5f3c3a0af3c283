"""Cosine of the attention output with each teacher's aligned cache, on held-out samples."""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.align.attention_output import attention_output_cosine
from kvdistill.kv import ModelKV, TeacherCache
from kvdistill.latent.answer_queries import answer_queries
from kvdistill.pipeline import Distillation
from kvdistill.target.lower import LowerBridge, covered_tokens, only_covered
from kvdistill.text import Batch


def attention_cosines(step: Distillation, batches: Iterable[Batch]) -> dict[str, list[float | None]]:
    """How well the student's answer reads each teacher's cache through its adapter.

    Args:
        step: the training step, in evaluation mode; its bridge is a ``LowerBridge`` with fitted adapters.
        batches: held-out samples on the student's device.

    Returns:
        By teacher, the mean cosine over samples of each student layer; None for a layer in which no answer
        row sees the chain of thought. Empty without samples.
    """
    found: dict[str, list[Tensor]] = {}
    for batch in batches:
        queries, _ = answer_queries(step.student, batch)
        outputs = step.student(batch=batch)
        for teacher in step.teachers:
            cache = teacher.cache(batch, outputs)
            cosine = attention_output_cosine(queries, _aligned(step, cache, batch), outputs.teacher.kv)
            found.setdefault(teacher.name, []).append(cosine)
    return {name: _mean(parts) for name, parts in found.items()}


def _aligned(step: Distillation, cache: TeacherCache, batch: Batch) -> ModelKV:
    """A teacher's cache in the student's geometry; tokens that it does not cover are masked."""
    assert isinstance(step.bridge, LowerBridge)
    alignment = batch.alignments.get(cache.teacher)
    aligned = step.bridge.aligner(cache.teacher)(cache.kv, alignment)
    return only_covered(aligned, covered_tokens(cache, alignment))


def _mean(parts: list[Float[Tensor, "_ L"]]) -> list[float | None]:
    """Mean over the samples of all batches, without those that measure nothing (NaN)."""
    found: list[float | None] = []
    for mean in torch.cat(parts).nanmean(0).tolist():
        if math.isnan(mean):
            mean = None
        found.append(mean)
    return found
