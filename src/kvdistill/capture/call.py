"""One captured forward pass: the mask and prefix that its attention layers get, and what they record."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class CapturedAttention:
    """Inputs of one attention layer, after key norm and rotation."""

    module: nn.Module
    query: Float[Tensor, "B Q S K"]
    keys: Float[Tensor, "B H S K"]
    """Keys of this call's own S tokens, without the prefix."""
    values: Float[Tensor, "B H S V"]
    scaling: float
    softcap: float | None
    window: int | None


Prefix = dict[int, tuple[list[Tensor], list[Tensor]]]
"""Layer id -> keys (B, H, P, K) and values (B, H, P, V) of earlier calls, in pieces along P."""


class AttentionCall:
    """Mask and prefix of one forward pass for every attention layer, and what the layers captured.

    Not a dataclass: FSDP copies dataclasses among the inputs of the layers that it wraps, and what a layer
    records in a copy is lost.

    Args:
        visible: Keys (prefix first) that each query sees, before any sliding window; None: the model's own
            mask.
        query_positions: (B, S), positions of the queries; None where no layer has a window.
        key_positions: (B, P), positions of the keys, in pieces along P.
        prefix: Keys and values of earlier calls.
    """

    __slots__ = (
        "__weakref__",
        "_masks",
        "closed",
        "compare_masks",
        "key_positions",
        "prefix",
        "query_positions",
        "seen",
        "visible",
    )

    def __init__(
        self,
        visible: Bool[Tensor, "B 1 S P"] | None = None,
        query_positions: Int[Tensor, "B S"] | None = None,
        key_positions: tuple[Int[Tensor, "B _"], ...] = (),
        prefix: Prefix | None = None,
    ) -> None:
        self.visible = visible
        self.query_positions = query_positions
        self.key_positions = key_positions
        self.prefix = prefix or {}
        self.seen: dict[int, CapturedAttention] = {}
        # True after the forward pass: layers replayed by gradient checkpointing then record nothing.
        self.closed = False
        # Whether each layer's mask is compared with ``visible``; this synchronizes with the device.
        self.compare_masks = False
        self._masks: dict[tuple[str, int | None], Tensor] = {}

    def mask(self, backend: str, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """The additive mask, built once for all layers with the same window.

        Args:
            backend: ``sdpa`` or ``eager``.
            window: Sliding window of the layer in tokens, or None.
            dtype: Dtype of the queries.

        Returns:
            (B, 1, S, P): 0 where a key is visible, else the dtype's minimum; None without ``visible``.
        """
        if self.visible is None:
            return None
        key = (backend, window)
        if key not in self._masks:
            visible = self.visible
            if window is not None and self.key_positions:
                visible = within_window(
                    visible, self.query_positions, torch.cat(self.key_positions, 1), window
                )
            # The minimum, as in transformers, not -inf: the softmax of a fully masked row would be NaN.
            self._masks[key] = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(
                ~visible, torch.finfo(dtype).min
            )
        return self._masks[key]


def within_window(
    visible: Bool[Tensor, "B 1 S P"],
    query_positions: Int[Tensor, "B S"] | None,
    key_positions: Int[Tensor, "B P"] | None,
    window: int | None,
) -> Bool[Tensor, "B 1 S P"]:
    """Hide keys that are ``window`` or more positions before the query.

    Args:
        visible: Mask before the window, (B, 1, S, P).
        query_positions: (B, S), and ``key_positions`` (B, P), in tokens of each reader's own text.
        window: Window in tokens, or None.

    Returns:
        The mask (B, 1, S, P); unchanged without a window or positions.
    """
    if window is None or query_positions is None or key_positions is None:
        return visible
    # In positions, not columns: padding and the other reader's tokens take no place in the window.
    distance = query_positions[:, None, :, None] - key_positions[:, None, None, :]  # (B, 1, S, P)
    return visible & (distance < window)
