"""Multiplexed tokens: each slot's vocabulary distribution against a weighted mix of its span (MUX)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvdistill.kv import LossOutput
from kvdistill.losses.inputs import LossInputs, Need
from kvdistill.losses.step_tokens import ReadAt, column_of, slots_of
from kvdistill.ops import masked_mean, to_float32
from kvdistill.text import ReaderBatch


@dataclass(frozen=True, kw_only=True)
class Mux:
    """``KL(mix || softmax(W h / temperature))`` of each slot, in nats.

    The tokens of the chain of thought are cut into M spans, one per slot. The mix of a span has the weight
    ``decay^j``, normalized over the span, on its token j; a token that occurs twice has the sum. A sample's
    loss is a mean over slots with a token; the loss is the mean over samples, where one without a token
    counts 0.

    As published: decay 0.9, temperature 1, weight 1, 6 slots one after another (``latent.passes`` =
    ``latent.slots`` = 6), CODI's hidden-state loss beside it, LoRA of rank 128 and alpha 32. Of its ways to
    cut spans, random cuts came out first.

    Source: MUX, https://arxiv.org/abs/2607.18264, equations 2 (mix), 3 (head) and 4 (KL).
    Differs: cuts are even by default, so that the loss does not draw random numbers.
    """

    kind: Literal["mux"] = "mux"
    decay: float = 0.9
    """Weight of a token over that of the token before it, rho."""
    temperature: float = 1.0
    """Divisor of the slot's logits, tau."""
    spans: Literal["even", "step", "random"] = "even"
    """``even``: M spans of equal length. ``step``: span i is step i, the last slot takes all further steps.
    ``random``: cuts drawn at random for each sample and step of training.
    """
    at: ReadAt = "previous"
    """The state that becomes a slot's input is the latent: in the layout ``shift`` that of the column before
    it (``previous``), in ``blocks`` the slot's own (``slot``).
    """
    needs: ClassVar[frozenset[Need]] = frozenset({"slots"})

    def __post_init__(self) -> None:
        """Refuse weights and temperatures that give no distribution."""
        if not 0 < self.decay <= 1:
            raise ValueError(f"Mux: decay is {self.decay}. Choose more than 0 and at most 1.")
        if not self.temperature > 0:
            raise ValueError(f"Mux: temperature is {self.temperature}. Choose more than 0.")

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The mean over samples.

        Args:
            inputs: The slots' logits (B, M + 1, C), and what teacher mode read.

        Returns:
            A scalar in nats, logged as ``mux``.

        Raises:
            ValueError: if the slots were not read.
        """
        slots, read = slots_of(inputs, "Mux")
        num_slots = slots.logits.shape[1] - 1
        columns = column_of(torch.arange(num_slots, device=slots.logits.device), self.at)
        logits = to_float32(slots.logits[:, columns]) / self.temperature  # B M C
        mix = self.mix(read, num_slots, logits.shape[-1]).to(logits)
        # x log x with 0 at x = 0, less the cross-entropy.
        each = (torch.xlogy(mix, mix) - mix * logits.log_softmax(-1)).sum(-1)
        loss = masked_mean(each, mix.any(-1), (1,)).mean()
        return LossOutput(loss, {"mux": loss.detach()})

    def mix(self, read: ReaderBatch, num_slots: int, vocabulary: int) -> Float[Tensor, "B M C"]:
        """Target distribution of each slot.

        Args:
            read: What teacher mode read, N tokens of chain of thought.
            num_slots: M.
            vocabulary: C.

        Returns:
            (B, M, C), summing to 1 over C; 0 for slots without a token.

        Source: MUX, https://arxiv.org/abs/2607.18264, equation 2.
        """
        slot, mask = self.cut(read, num_slots), read.cot.mask
        same = (slot[:, :, None] == slot[:, None, :]) & mask[:, None, :] & mask[:, :, None]  # B N N
        order = torch.arange(slot.shape[1], device=slot.device)
        index = (same & (order[None, :] < order[:, None])).sum(-1)  # j, place of the token in its span
        weight = torch.where(mask, self.decay ** index.float(), 0.0)
        total = (same * weight[:, None, :]).sum(-1)
        alpha = weight / total.clamp_min(torch.finfo(weight.dtype).tiny)
        mix = weight.new_zeros(len(slot), num_slots * vocabulary)
        mix = mix.scatter_add(1, torch.where(mask, slot * vocabulary + read.cot.ids, 0), alpha)
        return mix.unflatten(1, (num_slots, vocabulary))

    def cut(self, read: ReaderBatch, num_slots: int) -> Int[Tensor, "B N"]:
        """Slot of each token of the chain of thought.

        Args:
            read: What teacher mode read, N tokens of chain of thought.
            num_slots: M.

        Returns:
            (B, N), 0 to M - 1; padding has any of them.
        """
        mask = read.cot.mask
        order = (mask.cumsum(-1) - 1).clamp_min(0)
        if self.spans == "step":
            return read.step.clamp(0, num_slots - 1)
        if self.spans == "random":
            return _random_starts(mask, num_slots).cumsum(-1).clamp_max(num_slots - 1)
        return order * num_slots // mask.sum(-1, keepdim=True).clamp_min(1)


def _random_starts(mask: Bool[Tensor, "B N"], num_slots: int) -> Bool[Tensor, "B N"]:
    """M - 1 tokens of each sample, at random, that begin a new span; all where there are fewer."""
    first = mask & (mask.cumsum(-1) == 1)
    # The first token always begins span 0, so it is no cut.
    drawn = torch.where(mask & ~first, torch.rand(mask.shape, device=mask.device), -1.0)
    rank = drawn.argsort(-1, descending=True).argsort(-1)
    return (rank < num_slots - 1) & (drawn >= 0)
