"""Curricula over the latent passes: how many of them a step of training computes."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class GrowingPasses:
    """Passes grow from ``start`` to ``latent.passes`` in equal stages at the beginning of training.

    Evaluations always use all passes, also those during training: accuracy falls at first and recovers after
    the last stage.

    As published: from 1 to 6, one epoch of 30 per stage (``start`` 1, ``share`` 0.2).

    Source: LOTUS, https://arxiv.org/abs/2606.31779, section 4 and args/gsm8k_lotus_llama3b.yaml.
    Differs: the number of slots stays, and the later steps of the chain of thought are not written out in the
    first stages.
    """

    kind: Literal["growing_passes"] = "growing_passes"
    start: int = 1
    """Passes of the first stage."""
    share: float = 0.2
    """Share of training that the stages take together; after it, and in the last stage, all passes count."""

    def __post_init__(self) -> None:
        """Refuse stages without a pass or without a length."""
        if self.start < 1:
            raise ValueError(f"latent.curriculum.start is {self.start}. Choose 1 or more passes.")
        if not 0 < self.share <= 1:
            raise ValueError(
                f"latent.curriculum.share is {self.share}. Choose a share of training above 0 and up to 1."
            )

    def passes(self, progress: float, most: int) -> int:
        """Passes of a step of training.

        Args:
            progress: Share of training that is done, 0 to 1.
            most: ``latent.passes``, T of the last stage.

        Returns:
            ``start`` to ``most``.
        """
        stages = most - self.start + 1
        return min(most, self.start + int(progress / self.share * stages))
