"""Feedback: from the last hidden state of a latent slot to an input embedding, by an MLP or as it is."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    from kvdistill.latent.reasoner import LatentReasoner


def new_feedback(kind: str, width: int) -> nn.Module:
    """The module between two passes.

    Args:
        kind: ``mlp``; ``none`` and ``add`` take the hidden states as they are.
        width: Hidden width D of the backbone.

    Returns:
        A module from (B, S, D) to (B, S, D), not yet on the device of the backbone.
    """
    if kind == "mlp":
        return Feedback(width)
    return nn.Identity()


def latent_inputs(model: "LatentReasoner", states: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
    """Input embeddings of latent slots, from the hidden states that are fed back to them.

    Args:
        model: The student.
        states: (B, S, D), last hidden states.

    Returns:
        (B, S, D). With ``feedback = "add"``, the states plus the embedding of ``<latent>``.

    Source: ``add`` is ``E + h`` of LOTUS, https://arxiv.org/abs/2606.31779, section 3.
    """
    inputs = model.feedback(states)
    if model.config.feedback != "add":
        return inputs
    placeholder = torch.full((1, 1), model.special.latent, device=states.device)
    return inputs + model.embed(placeholder)  # (B, S, D) + (1, 1, D)


class Feedback(nn.Module):
    """Linear, GELU, Linear, LayerNorm; its output starts at the standard deviation of the embeddings.

    A plain LayerNorm has standard deviation 1, several times that of a token embedding, and its output would
    dominate the residual stream of the first layers.

    Args:
        width: Hidden width D of the backbone.

    Source: CODI, https://arxiv.org/abs/2502.21074, section 3. Differs: the norm starts at the embeddings'
    standard deviation.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        # D -> D throughout: the output takes the place of a token embedding.
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def start_at(self, std: float) -> None:
        """Initialize the norm so that the output has the standard deviation ``std``.

        Args:
            std: Standard deviation of the token embeddings.
        """
        # A normalized vector has standard deviation 1, so the gain is that of the output.
        nn.init.constant_(self.norm.weight, std)
        nn.init.zeros_(self.norm.bias)

    def forward(self, hidden: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """Map the hidden state of each slot to the input of the next.

        Args:
            hidden: (B, S, D), last hidden states of S slots.

        Returns:
            (B, S, D), input embeddings of the S slots to their right.
        """
        # Slots do not mix here: they see each other in the backbone alone.
        return self.norm(self.down(torch.nn.functional.gelu(self.up(hidden))))
