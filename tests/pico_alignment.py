"""Readers of a chain of thought for tests of alignment: only the tokens' spans count."""

from collections.abc import Sequence

import torch

from kvdistill.text import Padded, ReaderBatch

Spans = Sequence[tuple[int, int]]


def reader(samples: Sequence[Spans], side: str = "right") -> ReaderBatch:
    """A reader whose tokens have these spans; the last token of each sample ends a step."""
    width = max(map(len, samples))
    mask = torch.zeros(len(samples), width, dtype=torch.bool)
    for row, spans in enumerate(samples):
        start = width - len(spans) if side == "left" else 0
        mask[row, start : start + len(spans)] = True
    every = torch.zeros(len(samples), width, 2, dtype=torch.long)
    found = [span for spans in samples for span in spans]
    every[mask] = torch.tensor(found, dtype=torch.long).reshape(-1, 2)
    step_end = mask & (mask.cumsum(-1) == mask.sum(-1, keepdim=True))
    nothing = Padded(torch.zeros(len(samples), 0, dtype=torch.long), mask[:, :0])
    return ReaderBatch(
        question=nothing,
        cue=nothing,
        cot=Padded(mask.long(), mask),
        prompt=nothing,
        answer=nothing,
        step_end=step_end,
        spans=every,
        step=mask.long() - 1,
    )
