"""Queries of the rows that predict the answer, captured in teacher mode."""

from typing import TYPE_CHECKING

import torch

from kvdistill.align.attention_output import AnswerQueries, LayerQueries
from kvdistill.capture.extract import gather_rows
from kvdistill.capture.sequence import explicit
from kvdistill.kv import ModelOutput
from kvdistill.latent.layout import cot_delimiters
from kvdistill.latent.modes import teacher_output
from kvdistill.latent.passes import forward_pass
from kvdistill.text import Batch

if TYPE_CHECKING:
    from kvdistill.latent.reasoner import LatentReasoner


@torch.no_grad()
def answer_queries(model: "LatentReasoner", batch: Batch) -> tuple[AnswerQueries, ModelOutput]:
    """Teacher mode with the queries of its answer rows, in one forward pass.

    Args:
        model: The student.
        batch: B samples with chains of thought and answers, padded on either side.

    Returns:
        The queries of A rows, and teacher mode's output, whose cache over N tokens they read.
    """
    model.geometry()  # measured before the forward pass
    sequence = explicit(batch.teacher_mode, cot_delimiters(model.config.delimiters, model.special))
    packed = forward_pass(model, sequence, hidden_states=True)
    rows, geometry = sequence.answer_rows("teacher"), model.geometry()
    layers = [
        LayerQueries(
            query=gather_rows(seen.query, rows.columns),
            scaling=seen.scaling,
            softcap=seen.softcap,
            window=seen.window,
            rope=geometry.layer(layer_id).rope,
        )
        for layer_id, seen in sorted(packed.call.seen.items())
    ]
    # The chain of thought begins after as many tokens as are read before it.
    start = sequence.mask[:, : sequence.span("cot", "teacher")[0]].sum(-1)
    queries = AnswerQueries(tuple(layers), tuple(sorted(packed.call.seen)), rows.mask, rows.positions, start)
    return queries, teacher_output(model, packed, batch)
