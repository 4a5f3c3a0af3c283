"""Log-probability of the right answer, teacher-forced in a reasoning mode."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from kvdistill.kv import LabelRows
from kvdistill.ops import to_float32
from kvdistill.records.intervals import mean_interval
from kvdistill.records.schema import EvaluationRecord
from kvdistill.text import Batch

if TYPE_CHECKING:
    from kvdistill.latent.decode import Reasoning
    from kvdistill.latent.reasoner import LatentReasoner


@torch.no_grad()
def log_probabilities(model: "LatentReasoner", batch: Batch, reasoning: "Reasoning") -> Float[Tensor, " B"]:
    """Log-probability of each right answer, summed over its tokens, the end token included.

    The model reads the right answer behind the same context that it generates from: ``latent`` its latent
    slots, ``direct`` an empty chain of thought. ``cot`` reads the gold chain of thought in place of its own,
    so its value is that of the last step alone, an upper bound that tells nothing about the chain.

    Args:
        model: A student in evaluation mode.
        batch: B questions with their answers, padded on either side; all masks decide, so padding changes
            nothing.
        reasoning: ``latent``, ``cot`` or ``direct``.

    Returns:
        (B,), in nats, at most 0. Values of models with different tokenizers can be compared: each is of the
        complete answer, not of a token.

    Raises:
        BeyondLimitError: if a text with its answer (``cot``: and gold chain) is longer than the model reads.

    Source: ours.
    """
    if reasoning == "latent":
        # Student mode does not see the chain of thought; an empty one is cheaper.
        rows = model(replace(batch, teacher_mode=batch.teacher_mode.without_cot())).student.rows
    elif reasoning == "direct":
        rows = model(replace(batch, teacher_mode=batch.teacher_mode.without_cot()), "cot").rows
    else:
        rows = model(batch, "cot").rows
    return answer_sums(rows, len(batch))


def with_nats(record: EvaluationRecord, values: Sequence[float] | None) -> EvaluationRecord:
    """The record with the mean log-probability and its 95 % interval over questions.

    Args:
        record: Any evaluation.
        values: One log-probability per question, in nats; None leaves the record as it is.
    """
    if values is None:
        return record
    record = replace(record, nats=fmean(values))
    if len(values) < 2:
        return record
    interval = mean_interval(values)
    return replace(record, nats_low=interval.low, nats_high=interval.high)


def answer_sums(rows: LabelRows, num_samples: int) -> Float[Tensor, " B"]:
    """Sum of the log-probabilities of each sample's answer tokens.

    Args:
        rows: Rows that predict a label; those outside the answer are left out.
        num_samples: B.

    Returns:
        (B,), in nats, at most 0.
    """
    own = rows.is_answer
    # (R, C) -> (A,): the rows of the chain of thought and the prompt are dropped before the softmax.
    logits, labels = to_float32(rows.logits[own]), rows.labels[own]
    nll = functional.cross_entropy(logits, labels, reduction="none")
    return -nll.new_zeros(num_samples).index_add(0, rows.sample[own], nll)
