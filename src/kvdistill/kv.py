"""The types that cross folders: read this page first.

Letters in shapes: ``B`` batch, ``L`` layers, ``H`` key/value heads, ``T`` slots (tokens of a text, or
latents), ``K`` key width, ``V`` value width, ``D`` hidden width, ``R`` label rows, ``C`` vocabulary, ``F``
rotation frequencies, ``A`` answer rows.

Masks say True where something is there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rope:
    """A rotary position embedding of one layer: which channels turn, how fast, in which convention.

    Source: https://arxiv.org/abs/2104.09864, equation 34.
    """

    inv_freq: Float[Tensor, "*b F"]
    """Radians per position of each channel pair; one row a sample where the frequencies depend on its length.
    """
    start: int = 0
    """First rotated channel; the rotation covers ``2 F`` channels from here, the others pass."""
    convention: Literal["half_split", "interleaved"] = "half_split"
    """Pairs (i, i + F) or (2 i, 2 i + 1)."""
    factor: float = 1.0
    """The attention factor that multiplies cosine and sine (YaRN, longrope)."""


@dataclass(frozen=True, slots=True)
class LayerKV:
    """Keys and values of one attention layer, as the attention sees them."""

    keys: Float[Tensor, "B H T K"]
    values: Float[Tensor, "B H T V"]
    mask: Bool[Tensor, "B H T"]
    """True where the slot holds a token; per head, since compressors keep other tokens in each head."""
    positions: Int[Tensor, "B H T"]
    """Index of the token that the slot came from, counted from the first token of the cached text."""
    rope: Rope | None = None
    """The rotation that the keys carry now; None on the road, where keys are un-rotated (provenance stands in
    Geometry).
    """
    importance: Float[Tensor, "B H T"] | None = None
    """How much the answer attended to the slot; measured once, at capture."""
    step_end: Bool[Tensor, "B H T"] | None = None
    """True at the last token of a reasoning step; None where the text has no steps."""

    def replace(self, **changes: object) -> "LayerKV":
        """A copy with some fields changed."""
        return replace(self, **changes)  # pyright: ignore[reportArgumentType]

    def map_slots(self, function: Callable[[Tensor], Tensor]) -> "LayerKV":
        """Apply one function to every tensor with a slot axis; ``rope`` stays, and so does what is None.

        Args:
            function: Takes ``keys`` (B, H, T, K), ``values`` (B, H, T, V) and ``mask``, ``positions``,
                ``importance``, ``step_end`` (B, H, T), one at a time. It keeps the dtype and the axes; the
                slot axis is the third in all of them.

        Returns:
            The layer with the results in the same fields. They agree on batch, heads and slots.
        """
        fields = ("keys", "values", "mask", "positions", "importance", "step_end")
        tensors = {name: getattr(self, name) for name in fields}
        return self.replace(
            **{name: function(tensor) for name, tensor in tensors.items() if tensor is not None}
        )

    def detach(self) -> "LayerKV":
        """The same cache outside the autograd graph."""
        return self.replace(keys=self.keys.detach(), values=self.values.detach())


@dataclass(frozen=True, slots=True)
class ModelKV:
    """The cache of a whole model over one batch of texts."""

    layers: tuple[LayerKV, ...]
    layer_ids: tuple[int, ...]
    """Which layer of its model each entry is."""
    source: str
    """Whose cache it is, for messages and reports."""

    def detach(self) -> "ModelKV":
        """The same cache outside the autograd graph."""
        return replace(self, layers=tuple(layer.detach() for layer in self.layers))

    def map(self, layers: tuple[LayerKV, ...]) -> "ModelKV":
        """The same model with other layers in place of its own."""
        return replace(self, layers=layers)


@dataclass(frozen=True, slots=True)
class LayerGeometry:
    """The shape of one attention layer and what its keys have been through."""

    heads: int
    key_width: int
    value_width: int
    rope: Rope | None
    """The layer's rotation; None where keys do not turn (learned positions, NoPE, ALiBi)."""
    positional: Literal["rotary", "learned", "none"]
    """``learned``: positions are baked into keys and values through the residual stream and cannot be
    stripped.
    """
    key_norm: Float[Tensor, "*h K"] | None = None
    """Gain of the key norm, one row a head where it spans all heads; None without one."""
    window: int | None = None
    """Sliding attention window in tokens, None for full attention."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The attention layers of a model, in order."""

    layers: tuple[LayerGeometry, ...]
    layer_ids: tuple[int, ...] = ()
    """Which layer of its model each entry is; counted from 0 where left out."""

    def __post_init__(self) -> None:
        if not self.layer_ids:
            object.__setattr__(self, "layer_ids", tuple(range(len(self.layers))))

    def layer(self, layer_id: int) -> LayerGeometry:
        """The entry of layer ``layer_id``, which is not its rank where some layers have no attention."""
        return self.layers[self.layer_ids.index(layer_id)]


@dataclass(frozen=True, slots=True)
class LabelRows:
    """The rows of a packed batch that predict a token, with what the head says there."""

    logits: Float[Tensor, "R C"]
    labels: Int[Tensor, " R"]
    sample: Int[Tensor, " R"]
    """Which sample of the batch the row belongs to."""
    is_answer: Bool[Tensor, " R"]
    """True where the label is a token of the answer, False in the chain of thought and the prompt."""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What one mode of a model gives to the losses."""

    kv: ModelKV
    """Teacher mode: the cache over the chain of thought. Student mode: the cache of the latent slots.
    Un-rotated.
    """
    rows: LabelRows
    hidden: Float[Tensor, "B L D"]
    """Hidden states at the distillation token (the last of the answer prompt), embedding layer first."""
    attention: tuple[Float[Tensor, "B H T"], ...] | None = None
    """Per layer, how the answer's attention is spread over ``kv``'s slots (sums to 1); None where nobody
    asked.
    """


@dataclass(frozen=True, slots=True)
class TwoModes:
    """Both modes of one backbone on one batch, from one packed call."""

    teacher: ModelOutput
    student: ModelOutput


@dataclass(frozen=True, slots=True)
class TeacherCache:
    """What a teacher gives for one batch, outside the autograd graph."""

    teacher: str
    """Short name of the teacher: its key in the configuration, in logs and in checkpoints."""
    kv: ModelKV
    """Its cache over the chain of thought that it read, un-rotated."""


@dataclass(frozen=True, slots=True)
class KVPair:
    """A target cache, and the student's cache in the target's heads and widths."""

    target: ModelKV
    student: ModelKV
    layer_weights: Float[Tensor, " L"] | None = None
    """Weight of each compared layer; None weighs all alike."""
    share: Float[Tensor, " B"] | None = None
    """Weight of the pair in each sample's loss; None is 1."""


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A loss and the numbers worth logging."""

    loss: Float[Tensor, ""]
    metrics: dict[str, Tensor] = field(default_factory=dict)


def require_unrotated(kv: ModelKV, station: str) -> None:
    """Refuse keys that still carry a rotation.

    Raises:
        ValueError: if a layer's keys are rotated; ``station`` is named in the message.
    """
    for layer_id, layer in zip(kv.layer_ids, kv.layers, strict=True):
        if layer.rope is not None:
            raise ValueError(
                f"{station}: keys of layer {layer_id} of {kv.source} are rotated. Un-rotate them first: "
                "capture does, "
                "kvdistill.ops.rotate(..., inverse=True) does it by hand."
            )


def full_mask(like: Float[Tensor, "B H T K"]) -> Bool[Tensor, "B H T"]:
    """A mask that says that every slot holds a token."""
    return torch.ones(like.shape[:3], dtype=torch.bool, device=like.device)
