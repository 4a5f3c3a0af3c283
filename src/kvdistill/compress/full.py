"""Every token: the cache as it is."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvdistill.compress.base import Compressor, require_ready
from kvdistill.kv import ModelKV


@dataclass(frozen=True, kw_only=True)
class Full(Compressor):
    """Keep the whole cache; the loss, not the cache, bridges the lengths.

    The target keeps its N tokens, and a loss of geometry ``tokens`` reads the student's M slots at fractional
    places between them. Everything else on the road sees a cache of N slots, not M.

    Source: ours, as the upper bound that compression is measured against.
    """

    kind: Literal["full"] = "full"
    keeps_tokens: ClassVar[bool] = True

    def compress(self, kv: ModelKV, slots: int) -> ModelKV:
        """The same cache.

        Raises:
            ValueError: if ``slots`` is below 1 or keys are rotated (what is between two slots has no
                rotation).
        """
        require_ready(kv, slots, "Full")
        return kv
