"""From the last hidden state of one slot to the input of the next."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Feedback(nn.Module):
    """Linear, GELU, Linear, LayerNorm; its output starts at the spread of the token embeddings.

    Without that start the residual stream of the first layers drowns in inputs several times as large as any
    word.

    Source: CODI, https://arxiv.org/abs/2502.21074, section 3. Differs: the norm starts at the embeddings'
    standard deviation.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def start_at(self, std: float) -> None:
        """Give the output the standard deviation ``std``."""
        nn.init.constant_(self.norm.weight, std)
        nn.init.zeros_(self.norm.bias)

    def forward(self, hidden: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """Hidden states of the slots before, as inputs of the slots after."""
        return self.norm(self.down(torch.nn.functional.gelu(self.up(hidden))))
