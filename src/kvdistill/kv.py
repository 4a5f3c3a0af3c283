"""The types that cross folders, and the legend of all shapes: read this page first.

Letters in shapes: ``B`` batch, ``L`` layers, ``H`` key/value heads, ``Q`` query heads, ``T`` slots of a cache
(tokens of a text, or latents), ``M`` slots after compression, ``N`` tokens of the chain of thought, ``S``
columns of the sequence that one forward pass reads, ``P`` tokens of a prefix (in masks: all keys, prefix
first), ``K`` key width, ``V`` value width, ``W`` either width, ``D`` hidden width, ``R`` label rows, ``C``
vocabulary, ``F`` rotation frequencies, ``A`` answer rows. Widths of keys and values are per head.

Masks are True where there is a token.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding of one layer: rotated channels, frequencies and pairing convention.

    Source: https://arxiv.org/abs/2104.09864, equation 34.
    """

    inv_freq: Float[Tensor, "*b F"]
    """Radians per position of each channel pair; (B, F) where they depend on the sample's length."""
    start: int = 0
    """First rotated channel; the rotation covers ``2 F`` channels from here, the others are not rotated."""
    convention: Literal["half_split", "interleaved"] = "half_split"
    """Channel pairs (i, i + F) or (2 i, 2 i + 1)."""
    factor: float = 1.0
    """The attention factor that multiplies cosine and sine (YaRN, longrope)."""


@dataclass(frozen=True, slots=True)
class LayerKV:
    """Keys (after the key norm) and values of one attention layer, per key/value head and slot."""

    keys: Float[Tensor, "B H T K"]
    values: Float[Tensor, "B H T V"]
    mask: Bool[Tensor, "B H T"]
    """True where the slot holds a token; per head, since compressors may keep other tokens in each head."""
    positions: Int[Tensor, "B H T"]
    """Index of the token that the slot came from, counted from the first token of the cached text."""
    rope: Rope | None = None
    """The rotation that the keys carry; None where they are un-rotated, as from capture to loss (``Geometry``
    keeps the layer's own rotation).
    """
    importance: Float[Tensor, "B H T"] | None = None
    """Attention mass from the answer to each slot, measured once, at capture, where it sums to 1."""
    step_end: Bool[Tensor, "B H T"] | None = None
    """True at the last token of a reasoning step; None where the text has no steps."""

    def replace(self, **changes: object) -> "LayerKV":
        """A copy with some fields changed.

        Args:
            changes: New values by field name, in the shapes of the fields.

        Returns:
            A new layer; this one is unchanged.
        """
        return replace(self, **changes)  # pyright: ignore[reportArgumentType]

    def map_slots(self, function: Callable[[Tensor], Tensor]) -> "LayerKV":
        """Apply one function to every tensor with a slot axis; ``rope`` and fields that are None stay.

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
    """The KV cache of all attention layers of a model over one batch of texts."""

    layers: tuple[LayerKV, ...]
    layer_ids: tuple[int, ...]
    """Which layer of its model each entry is."""
    source: str
    """Name of the model or mode that the cache belongs to, for messages and reports."""

    def detach(self) -> "ModelKV":
        """The same cache outside the autograd graph."""
        return replace(self, layers=tuple(layer.detach() for layer in self.layers))

    def map(self, layers: tuple[LayerKV, ...]) -> "ModelKV":
        """The same model with other layers in place of its own.

        Args:
            layers: One per entry of ``layer_ids``, in that order.

        Returns:
            A new cache with the ids and the source of this one.
        """
        return replace(self, layers=layers)


@dataclass(frozen=True, slots=True)
class LayerGeometry:
    """Heads, widths, rotation, key norm and sliding window of one attention layer."""

    heads: int
    key_width: int
    value_width: int
    rope: Rope | None
    """The layer's rotation; None where keys are not rotated (learned positions, NoPE, ALiBi)."""
    positional: Literal["rotary", "learned", "none"]
    """``learned``: positions are baked into keys and values through the residual stream and cannot be
    stripped.
    """
    key_norm: Float[Tensor, "*h K"] | None = None
    """Gain of the key norm: (K), or (H, K) where it spans all heads; None without one."""
    window: int | None = None
    """Sliding attention window in tokens, None for full attention."""
    head_ids: tuple[int, ...] | None = None
    """Which key/value heads of the model's layer these are; None where they are all of them."""


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
        """The entry of one layer, found by id: not its index where some layers have no attention.

        Args:
            layer_id: Index of the layer in its model, from 0.

        Returns:
            The geometry of that layer.
        """
        return self.layers[self.layer_ids.index(layer_id)]


NO_LABEL = -100
"""Label of a row that predicts nothing, as in torch's cross-entropy."""


@dataclass(frozen=True, slots=True)
class LabelRows:
    """The rows of a packed batch that predict a label, with the logits of the language model head."""

    logits: Float[Tensor, "R C"]
    labels: Int[Tensor, " R"]
    """Token id to predict at each row, or ``NO_LABEL``."""
    sample: Int[Tensor, " R"]
    """Which sample of the batch the row belongs to."""
    is_answer: Bool[Tensor, " R"]
    """True where the label is a token of the answer, False in the chain of thought and the prompt."""


@dataclass(frozen=True, slots=True)
class SlotStates:
    """Last hidden states of ``<bot>`` and the M latent slots, in the graph: ``m`` is M + 1 here."""

    hidden: Float[Tensor, "B m D"]
    """From the last pass that computed the column, after the last layer and its norm; ``<bot>`` first."""
    logits: Float[Tensor, "B m C"]
    """What the language model head reads in them."""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """Cache, logits, hidden states and attention of one mode, for the losses."""

    kv: ModelKV
    """Teacher mode: the cache over the chain of thought. Student mode: the cache of the latent slots.
    Un-rotated.
    """
    rows: LabelRows
    hidden: Float[Tensor, "B L D"]
    """Hidden states at the distillation token (the last of the answer prompt), embeddings first: ``L`` is the
    number of layers + 1 here.
    """
    attention: tuple[Float[Tensor, "B H T"], ...] | None = None
    """Per layer, the answer's attention over the slots of ``kv`` (sums to 1 over T); None where no loss needs
    it.
    """
    slots: SlotStates | None = None
    """Student mode: what the language model head reads in the slots; None where no loss needs it."""


@dataclass(frozen=True, slots=True)
class TwoModes:
    """Teacher mode and student mode of one backbone on one batch."""

    teacher: ModelOutput
    student: ModelOutput
    question: Float[Tensor, "B d"] | None = None
    """The student's un-rotated keys at the last token of the question in one layer, heads concatenated,
    outside the autograd graph; None where no fusion routes by it.
    """


@dataclass(frozen=True, slots=True)
class Routing:
    """Weights of the teachers over those that cover a token of the sample; all 0 where none does."""

    weights: Float[Tensor, "B *l E"]
    """(B, E), or (B, L, E) where they differ between layers."""
    competence: Float[Tensor, "B E"] | None = None
    """What a router should give, over the same teachers; all 0 where it is not known."""


@dataclass(frozen=True, slots=True)
class TeacherCache:
    """A teacher's KV cache for one batch, outside the autograd graph."""

    teacher: str
    """Short name of the teacher: its key in the configuration, in logs and in checkpoints."""
    kv: ModelKV
    """Cache over the chain of thought, N slots, un-rotated."""
    covered: Bool[Tensor, "B N"] | None = None
    """True where a teacher has read the token; None where all are. A token that none has read keeps its slot,
    which counts in no loss.
    """
    regularizer: Float[Tensor, ""] | None = None
    """Term of trained adapters that is added to the loss; None without any."""
    routing: Routing | None = None
    """A fused cache: the weights it was fused with, where they depend on the sample."""


@dataclass(frozen=True, slots=True)
class KVPair:
    """A target cache, and the student's cache with the same layers, heads and widths."""

    target: ModelKV
    student: ModelKV
    layer_weights: Float[Tensor, " L"] | None = None
    """Weight of each compared layer; None weighs all alike."""
    share: Float[Tensor, " B"] | None = None
    """Weight of the pair in each sample's loss; None is 1."""
    scale: Float[Tensor, "L 2"] | None = None
    """Divisors of the distances of keys and of values; None takes the target's standard deviations."""


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A scalar loss and the metrics to log."""

    loss: Float[Tensor, ""]
    metrics: dict[str, Tensor] = field(default_factory=dict)


def require_unrotated(kv: ModelKV, station: str) -> None:
    """Refuse a cache whose keys still carry a rotation.

    Args:
        kv: Cache of any number of layers and slots.
        station: Name of the stage that needs un-rotated keys, for the message.

    Raises:
        ValueError: if a layer's keys are rotated.
    """
    for layer_id, layer in zip(kv.layer_ids, kv.layers, strict=True):
        if layer.rope is not None:
            raise ValueError(
                f"{station}: keys of layer {layer_id} of {kv.source} are rotated. Un-rotate them first: "
                "capture does, "
                "kvdistill.ops.rotate(..., inverse=True) does it by hand."
            )


def full_mask(like: Float[Tensor, "B H T K"]) -> Bool[Tensor, "B H T"]:
    """A mask for caches without empty slots.

    Args:
        like: Keys (B, H, T, K) or values (B, H, T, V); only shape and device are used.

    Returns:
        True everywhere, (B, H, T).
    """
    return torch.ones(like.shape[:3], dtype=torch.bool, device=like.device)
