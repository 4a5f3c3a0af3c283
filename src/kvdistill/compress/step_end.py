"""Step ends: the last token of each reasoning step."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.compress.base import ScoreCompressor
from kvdistill.kv import LayerKV


@dataclass(frozen=True, kw_only=True)
class StepEnd(ScoreCompressor):
    """Keep the last token of each reasoning step, which holds the step's result.

    With more steps than slots, the last steps are kept.

    Source: ours.
    """

    kind: Literal["step_end"] = "step_end"
    selection: Literal["per_head", "shared"] = "shared"
    """Only ``shared``: steps belong to the text, so all heads keep the same tokens."""

    def __post_init__(self) -> None:
        if self.selection != "shared":
            raise ValueError(
                f"StepEnd: selection is {self.selection!r}. Steps are the same for all heads: leave it at "
                "'shared'."
            )

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        """The slot index at step ends, ``-inf`` elsewhere.

        Args:
            layer: One layer of the cache, un-rotated, T slots.

        Returns:
            (B, H, T); later step ends score higher.

        Raises:
            ValueError: if the text has no steps.
        """
        if layer.step_end is None:
            raise ValueError(
                "StepEnd: the data has no steps, so no token ends one. Use a data set whose chain of "
                "thought is a list of steps, "
                "or choose another compressor, such as right_crop."
            )
        # float32 holds slot indices exactly up to 2^24.
        time = torch.arange(layer.mask.shape[-1], dtype=torch.float32, device=layer.mask.device)
        return torch.where(layer.step_end, time, -torch.inf)
