"""Rotary embedding of each attention layer, measured on the model, without a table of architectures.

A single token attends only to itself, whatever its position, so hidden states do not depend on rotary
positions; two keys of one token at different positions then differ by exactly the layer's rotation.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from kvdistill.capture.attention import (
    CHOOSE,
    MODEL_ERRORS,
    CaptureError,
    body_of,
    capture_attention,
    evaluating,
)
from kvdistill.capture.call import CapturedAttention
from kvdistill.kv import Geometry, LayerGeometry, Rope
from kvdistill.ops import rotate

PROBES = (0, 1, 7)
"""Positions at which the same token is fed."""
SPREAD = 0.02
"""Standard deviation of the token's embedding: small, since a larger one would hide learned positions in half
precision.
"""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Reference to a layer's rotary frequencies in its model.

    They are read again after each call, since they may depend on the length of the text (dynamic, longrope).
    """

    holder: nn.Module
    """Module with the frequencies."""
    buffer: str
    """Name of the buffer in ``holder``."""
    start: int
    """First rotated channel."""
    convention: Literal["half_split", "interleaved"]

    def rope(self) -> Rope:
        """The rotation with the frequencies that the model holds now.

        Returns:
            Frequencies (F), in float32, with start, convention and attention factor.
        """
        # The factor of ``full_attention_inv_freq`` is ``full_attention_attention_scaling``; 1 without one.
        factor = getattr(self.holder, self.buffer.replace("inv_freq", "attention_scaling"), 1.0)
        frequencies: Tensor = getattr(self.holder, self.buffer)
        # A copy, since longrope writes into its buffer.
        return Rope(
            frequencies.detach().to(torch.float32, copy=True), self.start, self.convention, float(factor)
        )


@dataclass(frozen=True, slots=True)
class MeasuredLayer:
    """Measured geometry and rotation of one attention layer."""

    layer_id: int
    """Index of the layer in its model."""
    shape: LayerGeometry
    """Without ``rope``: ``geometry`` reads its frequencies from the model."""
    rotation: Rotation | None
    """None where keys are not rotated."""


def measure(model: PreTrainedModel, token_id: int = 3) -> tuple[MeasuredLayer, ...]:
    """Run one random token at three positions and find the rotation that explains each layer's keys.

    Args:
        model: A transformers model whose attention can be captured.
        token_id: The token to run instead, in a model that cannot run on embeddings alone.

    Returns:
        One entry per attention layer, sorted by layer id.

    Raises:
        CaptureError: if no known convention explains a layer's keys, or the model cannot be captured.
    """
    device, dtype = model.device, model.dtype
    weight: Tensor = model.get_input_embeddings().weight  # pyright: ignore[reportAssignmentType]
    width = weight.shape[-1]
    # A generator of its own: measuring must not advance the random numbers of a run.
    token = torch.randn(width, generator=torch.Generator().manual_seed(0)) * SPREAD
    # (3, 1, D): the positions are three samples of one token, so that no token sees another.
    token = token.to(device, dtype).repeat(len(PROBES), 1, 1)
    positions = torch.tensor(PROBES, device=device)[:, None]
    with evaluating(model), torch.no_grad(), capture_attention(model) as call:
        # (3, 1, 1, 1): each sample has one token, which sees itself.
        mask = torch.ones(len(PROBES), 1, 1, 1, dtype=torch.bool, device=device)
        call.visible = mask
        settings = {"attention_mask": mask, "position_ids": positions, "use_cache": False, "kv_call": call}
        try:
            body_of(model)(inputs_embeds=token, **settings)
        except MODEL_ERRORS:  # some layers also look at the token's id
            call.seen.clear()
            ids = torch.full_like(positions, token_id)
            body_of(model)(input_ids=ids, **settings)
    if not call.seen:
        raise CaptureError(
            f"{type(model).__name__} does not hand its call's arguments down to its attention layers: it "
            f"cannot be captured. {CHOOSE}"
        )
    candidates = _candidates(model)
    return tuple(_explain(seen, layer_id, candidates) for layer_id, seen in sorted(call.seen.items()))


def geometry(measured: tuple[MeasuredLayer, ...]) -> Geometry:
    """Geometry of the measured layers, with the frequencies that the model holds now.

    Args:
        measured: From ``measure``.

    Returns:
        One entry per attention layer, with its layer id.
    """
    # Layers with the same rotation share one copy of it.
    ropes = {layer.rotation: layer.rotation.rope() for layer in measured if layer.rotation is not None}
    layers = (
        layer.shape if layer.rotation is None else replace(layer.shape, rope=ropes[layer.rotation])
        for layer in measured
    )
    return Geometry(tuple(layers), tuple(layer.layer_id for layer in measured))


@torch.no_grad()
def geometry_at(model: PreTrainedModel, measured: tuple[MeasuredLayer, ...], length: int) -> Geometry:
    """Geometry of the measured layers, with the frequencies for a text of a given length.

    They differ from the current ones where they depend on the length (dynamic, longrope).

    Args:
        model: The model that was measured. Where its frequencies depend on the length, it keeps the new ones.
        measured: From ``measure``.
        length: Tokens of the text.

    Returns:
        One entry per attention layer, with its layer id.
    """
    weight: Tensor = model.get_input_embeddings().weight  # pyright: ignore[reportAssignmentType]
    # The model updates its frequencies from the largest position id, so one token at the last one is enough.
    last = torch.full((1, 1), length - 1, device=weight.device)
    with evaluating(model):
        body_of(model)(inputs_embeds=weight[None, :1], position_ids=last, use_cache=False)
    return geometry(measured)


def _candidates(model: nn.Module) -> list[tuple[nn.Module, str]]:
    # Every buffer of frequencies (F) in use; "original" ones are the defaults that dynamic scaling keeps.
    return [
        (module, name)
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name.endswith("inv_freq") and "original" not in name and buffer.ndim == 1
    ]


def _explain(
    seen: CapturedAttention, layer_id: int, candidates: list[tuple[nn.Module, str]]
) -> MeasuredLayer:
    # (P, H, 1, K): one key per position. Values depend on positions only where these enter the embeddings.
    keys, values = seen.keys.float(), seen.values.float()
    # Half precision rounds each key to two or three digits.
    tolerance = 3e-2
    if seen.keys.dtype in (torch.float32, torch.float64):
        tolerance = 1e-4
    # Errors are relative: the size of keys differs by orders of magnitude between models.
    scale = keys[0].norm().clamp_min(1e-12)
    rotation: Rotation | None = None
    if (values - values[:1]).norm() > tolerance * values[0].norm():
        positional = "learned"
    elif (keys - keys[:1]).norm() <= tolerance * scale:
        positional = "none"
    else:
        positional = "rotary"
        rotation = _best_rotation(keys, candidates)
        error: Tensor | float = torch.inf
        if rotation is not None:
            error = _residual(keys, rotation) / scale
        if error > tolerance:
            raise CaptureError(
                f"Layer {layer_id} ({type(seen.module).__name__}) moves its keys with the position in a way "
                "that neither the "
                f"half-split nor the interleaved rotation explains (best error {float(error):.1e}): it "
                "cannot be captured."
            )
    shape = LayerGeometry(
        heads=keys.shape[1],
        key_width=keys.shape[-1],
        value_width=values.shape[-1],
        rope=None,
        positional=positional,
        key_norm=_key_norm(seen.module, keys.shape[1], keys.shape[-1]),
        window=seen.window,
    )
    return MeasuredLayer(layer_id, shape, rotation)


def _best_rotation(
    keys: Float[Tensor, "P H 1 K"], candidates: list[tuple[nn.Module, str]]
) -> Rotation | None:
    width = keys.shape[-1]
    # Partial rotations cover the first channels, or the last (multi-head latent attention).
    tried = [
        Rotation(holder, buffer, start, convention)
        for holder, buffer in candidates
        if 2 * getattr(holder, buffer).shape[0] <= width  # layers of another width have other frequencies
        for start in {0, width - 2 * getattr(holder, buffer).shape[0]}
        for convention in ("half_split", "interleaved")
    ]
    return min(tried, key=lambda rotation: float(_residual(keys, rotation)), default=None)


def _residual(keys: Float[Tensor, "P H 1 K"], rotation: Rotation) -> Float[Tensor, ""]:
    rope = rotation.rope()
    bare = Rope(rope.inv_freq, rope.start, rope.convention)
    positions = torch.tensor(PROBES, device=keys.device)[:, None, None]
    # The key at position 0 carries the attention factor already: ``bare`` leaves it out.
    return (rotate(keys[:1].expand_as(keys), positions, bare) - keys).norm()


def _key_norm(module: nn.Module, heads: int, width: int) -> Tensor | None:
    """Gain of the layer's key norm, (K) or (H, K): its output for a vector of ones, whose RMS is 1."""
    norm = getattr(module, "k_norm", None)
    weight = getattr(norm, "weight", None)
    if norm is None or weight is None or weight.numel() not in (width, heads * width):
        return None
    with torch.no_grad():
        gain = norm(torch.ones(weight.shape, device=weight.device, dtype=weight.dtype)).float()
    if gain.numel() == width:
        return gain.reshape(width)
    return gain.reshape(heads, width)
