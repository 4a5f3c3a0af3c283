"""No compression: the loss compares all N tokens of the target."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvdistill.compress.base import Compressor, require_ready
from kvdistill.kv import ModelKV


@dataclass(frozen=True, kw_only=True)
class Full(Compressor):
    """Keep the entire cache; the loss interpolates the student to the target's length.

    The target keeps its N tokens, and a loss of geometry ``tokens`` reads the student's M slots at fractional
    places between them. All steps after the compressor get a cache of N slots, not M.

    Source: ours, as the upper bound that compression is measured against.
    """

    kind: Literal["full"] = "full"
    keeps_tokens: ClassVar[bool] = True

    def compress(self, kv: ModelKV, slots: int) -> ModelKV:
        """Check the cache and return it as it is.

        Args:
            kv: The cache of a batch over the chain of thought, un-rotated, N tokens.
            slots: M, the number of the student's latent slots; only checked.

        Returns:
            ``kv`` itself, N tokens.

        Raises:
            ValueError: if ``slots`` is below 1 or keys are rotated (a place between two slots has no
                rotation).
        """
        require_ready(kv, slots, "Full")
        return kv
