"""The cache of any causal language model over a text, as compressors take it."""

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
    """Read a text and return the keys and values that the attention layers saw, without rotation.

    Args:
        model: a causal language model, or a student, whose backbone is then read. Its attention backend has
            to be ``sdpa`` or ``eager``; it is as it was afterwards.
        input_ids: the texts.
        attention_mask: 1 where a token is; all where left out. Padding may be on either side.
        tokens: the columns to capture; all where left out.
        answer: the columns whose attention to the captured tokens becomes their ``importance``, which R-KV
            and others score by: the answer after a chain of thought, or the last tokens of a prompt.
            None captures no importance.
        architecture: what ``examine(model)`` returned, where many texts are captured; measured where left
            out, which takes a dozen calls with short texts.

    Returns:
        One entry per attention layer. Keys (B, H, T, K) before the rotation, values (B, H, T, V); T is the
        number of captured columns, False in the mask at padding. ``positions`` count the captured tokens
        from 0, which are the model's position ids where ``tokens`` begins with the text.

    Raises:
        CaptureError: if what is captured would not be what the model computes.
    """
    model = causal_lm(model)
    examined = examine(model) if architecture is None else architecture
    mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    positions = text_order(mask) + examined.position_offset
    with rotation.evaluating(model), capture_attention(model) as call:
        body_of(model)(
            input_ids=input_ids,
            attention_mask=mask.long(),
            position_ids=positions,
            use_cache=False,
            kv_call=call,
        )
    start, stop, _ = (tokens or slice(None)).indices(input_ids.shape[1])
    text = Columns(start, stop, mask[:, start:stop], positions[:, start:stop])
    rows = None
    if answer is not None:
        columns = torch.arange(input_ids.shape[1], device=input_ids.device)[answer]
        rows = AnswerRows(columns.expand(len(mask), -1), mask[:, answer], positions[:, answer])
    source = f"{type(model).__name__}, tokens {start} to {stop} of {input_ids.shape[1]}"
    return extract(call, rotation.geometry(examined.layers), text, rows, source)
