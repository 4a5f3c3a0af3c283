"""Tokens of a reasoning step, and the states that losses on tokens read: one state for each latent slot."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kvdistill.kv import SlotStates
from kvdistill.losses.inputs import LossInputs
from kvdistill.text import ReaderBatch

ReadAt = Literal["slot", "previous"]
"""``slot``: a slot's own last state. ``previous``: the state of the column before it (``<bot>`` for the first
slot), from which a next token would be predicted.
"""


@dataclass(frozen=True, slots=True)
class StepTokens:
    """Where each token of the chains of thought is in its step."""

    step: Int[Tensor, "B N"]
    """Number of the step, from 0; -1 at padding."""
    index: Int[Tensor, "B N"]
    """Index of the token within its step, from 0."""
    length: Int[Tensor, "B N"]
    """Number of tokens of that step."""

    @classmethod
    def of(cls, read: ReaderBatch) -> "StepTokens":
        """Index and length for each token.

        Args:
            read: What teacher mode read, N tokens of chain of thought.

        Returns:
            Tensors (B, N); index and length of padding mean nothing.
        """
        same = read.step[:, :, None] == read.step[:, None, :]  # (B, N, N)
        order = torch.arange(read.step.shape[1], device=read.step.device)
        earlier = order[None, :] < order[:, None]
        return cls(read.step, (same & earlier).sum(-1), same.sum(-1))


def slots_of(inputs: LossInputs, name: str) -> tuple[SlotStates, ReaderBatch]:
    """The slots' states and the chain of thought, for losses that need both.

    Args:
        inputs: The inputs of a loss that needs ``slots``.
        name: Name of the loss, for the message.

    Returns:
        States of ``<bot>`` and M slots, and what teacher mode read.

    Raises:
        ValueError: if either is missing.
    """
    slots = inputs.outputs.student.slots
    if slots is None or inputs.read is None:
        raise ValueError(
            f"{name}: the slots were not read, or the chain of thought is missing. Call the student with "
            "read_slots, and give LossInputs what teacher mode read."
        )
    return slots, inputs.read


def column_of(slot: Int[Tensor, " R"], at: ReadAt) -> Int[Tensor, " R"]:
    """Column of ``SlotStates`` in which a slot is read.

    Args:
        slot: Slots, from 0.
        at: ``slot`` or ``previous``.

    Returns:
        (R,); column 0 is ``<bot>``.
    """
    if at == "slot":
        return slot + 1
    return slot


def share(valid: Bool[Tensor, "B N"], read: ReaderBatch) -> Tensor:
    """Share of the chains' tokens that have a slot, over the batch.

    Args:
        valid: True at tokens that a loss compares with a slot.
        read: What teacher mode read.

    Returns:
        A scalar from 0 to 1; 0 where there are no tokens.
    """
    return valid.sum() / read.cot.mask.sum().clamp_min(1)
