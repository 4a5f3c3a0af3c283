"""capture_kv: the un-rotated KV cache of any causal language model over a batch of texts."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedModel

from kvdistill.capture import rotation
from kvdistill.capture.architecture import Architecture, examine
from kvdistill.capture.attention import body_of, capture_attention
from kvdistill.capture.cache import causal_lm
from kvdistill.capture.extract import AnswerRows, Columns, extract, text_order
from kvdistill.kv import ModelKV


@torch.no_grad()
def capture_kv(
    model: PreTrainedModel,
    input_ids: Int[Tensor, "B S"],
    attention_mask: Int[Tensor, "B S"] | Bool[Tensor, "B S"] | None = None,
    tokens: slice | None = None,
    answer: slice | None = None,
    architecture: Architecture | None = None,
) -> ModelKV:
    """Run one forward pass over a batch of texts and capture keys and values of all attention layers.

    Args:
        model: A causal language model, or a student, whose backbone is then run. Its attention backend must
            be ``sdpa`` or ``eager``; it is unchanged afterwards.
        input_ids: Token ids, (B, S).
        attention_mask: 1 where there is a token, (B, S); all ones where left out. Padding on either side.
        tokens: Columns to capture; all S where left out.
        answer: Columns whose attention to the captured tokens becomes their ``importance``, which R-KV and
            others score by: the answer after a chain of thought, or the last tokens of a prompt. None
            captures no importance.
        architecture: Result of ``examine(model)``, for many calls; measured where left out, which takes a
            dozen calls with short texts.

    Returns:
        One entry per attention layer: keys (B, H, T, K) before the rotation, values (B, H, T, V), where T is
        the number of captured columns; the mask is False at padding. ``positions`` count the captured tokens
        from 0, which equal the model's position ids where ``tokens`` begins with the text.

    Raises:
        CaptureError: if what is captured would not be what the model computes.
    """
    model = causal_lm(model)
    if architecture is None:
        architecture = examine(model)
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    mask = attention_mask.bool()
    # Explicit position ids: padding, on either side, does not shift a text's positions.
    positions = text_order(mask) + architecture.position_offset
    with rotation.evaluating(model), capture_attention(model) as call:
        body_of(model)(
            input_ids=input_ids,
            attention_mask=mask.long(),
            position_ids=positions,
            use_cache=False,
            kv_call=call,
        )
    # T = stop - start captured columns; negative and open slices count from S.
    start, stop, _ = (tokens or slice(None)).indices(input_ids.shape[1])
    text = Columns(start, stop, mask[:, start:stop], positions[:, start:stop])
    rows = None
    if answer is not None:
        # The answer's own tokens are the queries here, not the rows that predict them.
        columns = torch.arange(input_ids.shape[1], device=input_ids.device)[answer]
        rows = AnswerRows(columns.expand(len(mask), -1), mask[:, answer], positions[:, answer])
    source = f"{type(model).__name__}, tokens {start} to {stop} of {input_ids.shape[1]}"
    # Frequencies are read after the call, since it may have changed them (dynamic scaling, longrope).
    return extract(call, rotation.geometry(architecture.layers), text, rows, source)
