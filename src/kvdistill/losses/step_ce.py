"""Step cross-entropy: each slot predicts a gold token of its reasoning step (LOTUS)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kvdistill.kv import LabelRows, LossOutput
from kvdistill.losses.cross_entropy import nll_per_sample
from kvdistill.losses.inputs import LossInputs, Need
from kvdistill.losses.step_tokens import ReadAt, StepTokens, column_of, share, slots_of


@dataclass(frozen=True, kw_only=True)
class StepCE:
    """Cross-entropy of the last pass's slots to the gold tokens of their step, through the LM head.

    Blocks of c slots: slot j of block i predicts token j of step i. Slots beyond the end of their step,
    tokens beyond the end of their block and steps beyond the last block are left out. A sample's loss is a
    mean over its predicted tokens; the loss is the mean over samples, where one without a step counts 0.

    As published: weight 0.05 (0.033 on natural language); 6 blocks of 25 slots (GPT-2: 13, natural language:
    50) in 6 passes, ``latent.layout = "blocks"`` with ``latent.feedback = "add"``; all weights trained at a
    constant learning rate of 1e-4 (5e-5 at 3B), 30 epochs, batch 128, one epoch per stage.

    Source: LOTUS, https://arxiv.org/abs/2606.31779, section 3, and its scripts/lotus.py.
    Differs: a mean within each sample, where the published code averages over all tokens of a batch. The
    published code reads a slot's token in the column before it (``at = "previous"``), and lets a step that is
    longer than its block run on into the next one.
    """

    kind: Literal["step_ce"] = "step_ce"
    block: int = 1
    """Slots of a block, c; the student's slots have to be a multiple of it."""
    keep: Literal["first", "last"] = "first"
    """Which tokens of a step with more than c of them; with one slot, ``last`` is the token that ends it."""
    at: ReadAt = "slot"
    """Whether a token is read in its slot's own state, or in the state of the column before it."""
    needs: ClassVar[frozenset[Need]] = frozenset({"slots"})

    def __post_init__(self) -> None:
        """Refuse blocks without a slot."""
        if self.block < 1:
            raise ValueError(f"StepCE: block is {self.block}. A block needs at least 1 slot.")

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The mean over samples.

        Args:
            inputs: The slots' logits (B, M + 1, C), and what teacher mode read.

        Returns:
            A scalar in nats per token, logged as ``step_ce``; ``step_ce_accuracy``, the share of tokens that
            their slot ranks first; ``step_ce_share``, the share of the chain's tokens that have a slot.

        Raises:
            ValueError: if the slots were not read, or their number is no multiple of the blocks.
        """
        slots, read = slots_of(inputs, "StepCE")
        slot, valid = self.assign(StepTokens.of(read), slots.logits.shape[1] - 1)
        sample, token = valid.nonzero(as_tuple=True)  # R tokens that have a slot
        logits = slots.logits[sample, column_of(slot[sample, token], self.at)]  # R C
        labels = read.cot.ids[sample, token]
        rows = LabelRows(logits, labels, sample, torch.zeros_like(labels, dtype=torch.bool))
        loss = nll_per_sample(rows, len(valid)).mean()
        right = (logits.detach().argmax(-1) == labels).sum() / max(len(labels), 1)
        return LossOutput(
            loss,
            {"step_ce": loss.detach(), "step_ce_accuracy": right, "step_ce_share": share(valid, read)},
        )

    def assign(self, tokens: StepTokens, num_slots: int) -> tuple[Int[Tensor, "B N"], Bool[Tensor, "B N"]]:
        """Slot of each token of the chain of thought.

        Args:
            tokens: Step of each token, and its place in it.
            num_slots: M.

        Returns:
            Slots (B, N), and True where the token has one.

        Raises:
            ValueError: if M is no multiple of the block.
        """
        if num_slots % self.block:
            raise ValueError(
                f"StepCE: latent.slots is {num_slots}, which is no multiple of the block of {self.block} "
                "slots. Change latent.slots or the loss's block."
            )
        index = tokens.index
        if self.keep == "last":
            index = index - (tokens.length - self.block).clamp_min(0)
        inside = (tokens.step >= 0) & (tokens.step < num_slots // self.block)
        valid = inside & (index >= 0) & (index < self.block)
        return tokens.step * self.block + index, valid
