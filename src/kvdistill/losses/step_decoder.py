"""Step decoder: a small decoder, trained along, writes each reasoning step from its latent (SIM-CoT)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from kvdistill.kv import LabelRows, LossOutput
from kvdistill.losses.cross_entropy import nll_per_sample
from kvdistill.losses.inputs import LossInputs, Need
from kvdistill.losses.step_tokens import ReadAt, StepTokens, column_of, share, slots_of
from kvdistill.text import ReaderBatch


@dataclass(frozen=True, kw_only=True)
class StepDecoder:
    """Cross-entropy of a decoder that writes step i token by token after the c latents of block i.

    The decoder reads the states of the block and the tokens so far, and nothing of the question, so that what
    it writes has to be in the latents. It is trained with the student and dropped afterwards. A sample's loss
    is a mean over the tokens of its first M / c steps; the loss is the mean over samples.

    As published: weight 1; one or two latents a step (CODI, Coconut); the decoder is a copy of the backbone.

    Source: SIM-CoT, https://arxiv.org/abs/2509.20317, section 3.
    Differs: a few causal transformer layers with a tied embedding of their own, which starts as the
    student's, in place of a language model as large as the backbone, which came out first there; LOTUS's
    auxiliary decoder (https://arxiv.org/abs/2606.31779) is as small. No end token closes a step.
    """

    kind: Literal["step_decoder"] = "step_decoder"
    block: int = 1
    """Slots of a block, c; the student's slots have to be a multiple of it."""
    layers: int = 2
    """Transformer layers of the decoder."""
    heads: int = 4
    """Attention heads of a layer; the backbone's hidden width has to be a multiple of it."""
    at: ReadAt = "previous"
    """The state that becomes a slot's input is the latent: in the layout ``shift`` that of the column before
    it (``previous``), in ``blocks`` the slot's own (``slot``).
    """
    needs: ClassVar[frozenset[Need]] = frozenset({"slots"})

    def __post_init__(self) -> None:
        """Refuse a decoder without layers, and blocks without a slot."""
        if min(self.block, self.layers, self.heads) < 1:
            raise ValueError(
                f"StepDecoder: block {self.block}, layers {self.layers}, heads {self.heads}. Each has to be "
                "1 or more."
            )

    def module(self, embedding: Float[Tensor, "C D"]) -> nn.Module:
        """The decoder, in float32 on the device of the embedding.

        Args:
            embedding: The student's token embeddings, whose values it starts from.

        Returns:
            A ``Decoder``.

        Raises:
            ValueError: if the width is no multiple of the heads.
        """
        if embedding.shape[1] % self.heads:
            raise ValueError(
                f"StepDecoder: the hidden width {embedding.shape[1]} is no multiple of {self.heads} heads. "
                "Change the loss's heads."
            )
        return Decoder(embedding, self.layers, self.heads).to(embedding.device)

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The mean over samples.

        Args:
            inputs: The slots' states (B, M + 1, D), what teacher mode read, and the decoder.

        Returns:
            A scalar in nats per token, logged as ``step_decoder``; ``step_decoder_share``, the share of the
            chain's tokens that are decoded.

        Raises:
            ValueError: if the slots were not read, or their number is no multiple of the blocks.
        """
        slots, read = slots_of(inputs, "StepDecoder")
        num_slots = slots.hidden.shape[1] - 1
        if num_slots % self.block:
            raise ValueError(
                f"StepDecoder: latent.slots is {num_slots}, which is no multiple of the block of "
                f"{self.block} slots. Change latent.slots or the loss's block."
            )
        ids, mask = step_texts(read, num_slots // self.block)  # B K n
        columns = column_of(torch.arange(num_slots, device=ids.device), self.at)
        latents = slots.hidden[:, columns].unflatten(1, (-1, self.block))  # B K c D
        sample, step = mask.any(-1).nonzero(as_tuple=True)  # R steps
        logits = inputs.modules["step_decoder"](latents[sample, step], ids[sample, step])  # R n C
        row, place = mask[sample, step].nonzero(as_tuple=True)
        labels = ids[sample, step][row, place]
        rows = LabelRows(logits[row, place], labels, sample[row], torch.zeros_like(labels, dtype=torch.bool))
        loss = nll_per_sample(rows, len(ids)).mean()
        decoded = (read.step >= 0) & (read.step < num_slots // self.block)
        return LossOutput(loss, {"step_decoder": loss.detach(), "step_decoder_share": share(decoded, read)})


def step_texts(read: ReaderBatch, num_steps: int) -> tuple[Int[Tensor, "B K n"], Bool[Tensor, "B K n"]]:
    """Chains of thought as one row per step.

    Args:
        read: What teacher mode read, N tokens of chain of thought.
        num_steps: K; further steps are left out.

    Returns:
        Ids and mask (B, K, n), padded on the right; n is the length of the longest step, 1 or more.
    """
    tokens = StepTokens.of(read)
    kept = (tokens.step >= 0) & (tokens.step < num_steps)
    sample, token = kept.nonzero(as_tuple=True)
    # One column at least, so that a batch without steps has a shape that the decoder can read.
    width = max([1, *tokens.length[kept].unique().tolist()])
    ids = read.cot.ids.new_zeros(len(kept), num_steps, width)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    place = (sample, tokens.step[sample, token], tokens.index[sample, token])
    ids[place] = read.cot.ids[sample, token]
    mask[place] = True
    return ids, mask


class Decoder(nn.Module):
    """Causal transformer over latents and tokens, with one embedding for its input and its head.

    Like the auxiliary decoder of LOTUS it has no position embedding: a causal mask tells the order.

    Args:
        embedding: Token embeddings that its own start from.
        layers: Number of layers.
        heads: Attention heads.

    Source: SIM-CoT, https://arxiv.org/abs/2509.20317, section 3.
    """

    def __init__(self, embedding: Float[Tensor, "C D"], layers: int, heads: int) -> None:
        super().__init__()
        width = embedding.shape[1]
        self.embedding = nn.Parameter(embedding.detach().float().clone())
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, latents: Float[Tensor, "R c D"], ids: Int[Tensor, "R n"]) -> Float[Tensor, "R n C"]:
        """Logits of each token of a step, from the latents and the tokens before it.

        Args:
            latents: (R, c, D), states of a block of slots.
            ids: (R, n), tokens of its step.

        Returns:
            (R, n, C); the last latent predicts the first token.
        """
        tokens = functional.embedding(ids[:, :-1], self.embedding)
        # c latents, then all tokens but the last, which predicts nothing.
        inputs = torch.cat((latents.float(), tokens), 1)
        size = inputs.shape[1]
        future = torch.ones(size, size, dtype=torch.bool, device=inputs.device).triu(1)
        states = self.norm(self.layers(inputs, mask=future))
        return states[:, latents.shape[1] - 1 :] @ self.embedding.T
