"""Collate: encoded examples to one padded batch."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

import torch

from kvdistill.text import Batch, Encoded, Padded

Side = Literal["right", "left"]


def collate(samples: Sequence[Encoded], pad_id: int, padding_side: Side = "right") -> Batch:
    """Stack samples into a batch, each segment padded to its own longest member.

    Args:
        samples: B encoded examples, at least one.
        pad_id: token id of padding; what is padding is decided by the masks, not by this id.
        padding_side: side of the padding, in every segment.

    Returns:
        A batch of B samples; each segment has ids and mask of shape (B, its longest length).

    Raises:
        ValueError: if there is no sample.
    """
    if not samples:
        raise ValueError(
            "A batch needs at least one sample. Check that the data set is not empty, or that not every "
            "sample was dropped."
        )
    ends = [[index in sample.step_ends for index in range(len(sample.cot.ids))] for sample in samples]
    return Batch(
        question=_pad([sample.question.ids for sample in samples], pad_id, padding_side),
        cue=_pad([sample.cue.ids for sample in samples], pad_id, padding_side),
        student_cue=_pad([sample.student_cue.ids for sample in samples], pad_id, padding_side),
        cot=_pad([sample.cot.ids for sample in samples], pad_id, padding_side),
        prompt=_pad([sample.prompt.ids for sample in samples], pad_id, padding_side),
        answer=_pad([sample.answer.ids for sample in samples], pad_id, padding_side),
        step_end=_pad(ends, 0, padding_side).ids.bool(),
        cot_id=torch.tensor([cot_id_of(sample) for sample in samples]),
        sample_ids=tuple(sample.sample_id for sample in samples),
    )


def cot_id_of(sample: Encoded) -> int:
    """Hash of the texts of chain of thought and answer, from 0 to 2^63 - 1, the same on every machine.

    Equal ids mark samples that are no valid partners for negative controls.
    """
    text = f"{sample.cot.text}\0{sample.answer.text}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1  # 63 bits fit an int64


def _pad(rows: Sequence[Sequence[int]], fill: int, side: Side) -> Padded:
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), fill, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[i, place] = torch.tensor(row, dtype=torch.long)
        mask[i, place] = True
    return Padded(ids, mask)
