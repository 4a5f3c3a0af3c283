"""Random texts for the architecture check: padded on both sides, and packed as in training."""

from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

from kvdistill.capture.pieces import Piece, Reader
from kvdistill.capture.sequence import Sequence

QUESTION, LATENTS, COT, ANSWER = 5, 3, 4, 2
"""Tokens of the pieces of the longer random text."""


def packed_texts(model: PreTrainedModel) -> Sequence:
    """Two random texts; the first has padding left of its question and right of its chain of thought."""
    rows = model.get_input_embeddings().weight.shape[0]  # pyright: ignore
    reserved = set(_special_ids(model.config.to_dict()))  # models treat some of them differently
    usable = torch.tensor([token for token in range(min(rows, 4096)) if token not in reserved])
    # A generator of its own: the check must not advance the random numbers of a run.
    generator = torch.Generator().manual_seed(0)

    def piece(name: str, reader: Reader, width: int) -> Piece:
        drawn = torch.randint(len(usable), (2, width), generator=generator)
        ids = usable[drawn].to(model.device)
        return Piece(name, reader, ids, torch.ones_like(ids, dtype=torch.bool))

    question, cot = piece("question", "shared", QUESTION), piece("cot", "teacher", COT)
    question.mask[0, :2] = False  # left padding
    cot.mask[0, -1:] = False  # right padding
    pieces = (question, piece("latents", "student", LATENTS), cot, piece("answer", "teacher", ANSWER))
    return Sequence(pieces, offset=torch.zeros(2, dtype=torch.long, device=model.device))


def _special_ids(settings: Any) -> Iterator[int]:
    """Every token id with a special meaning in a configuration: padding, end of sequence, image tokens."""
    if not isinstance(settings, dict):
        return
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _special_ids(value)
        elif str(name).endswith(("_token_id", "_token_index", "_token_ids")):
            if not isinstance(value, list):
                value = [value]
            yield from (number for number in value if isinstance(number, int))
