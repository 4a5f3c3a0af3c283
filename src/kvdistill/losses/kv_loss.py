"""KV loss: distance between a target cache and the student's latent cache."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from kvdistill.kv import KVPair, LayerKV, LossOutput, ModelKV, require_unrotated
from kvdistill.layer_batch import stack, stackable
from kvdistill.losses.axis import (
    CachedFrame,
    least_squares_reconstruction,
    mask_invalid,
    read_at_tokens,
    require_same_shape,
)
from kvdistill.losses.distance import Distance, elementwise, require_positive_beta
from kvdistill.losses.inputs import LossInputs, Need
from kvdistill.losses.layer_weights import losses_by_layer, shared, weighted_mean
from kvdistill.ops import masked_mean, masked_std


@dataclass(frozen=True, kw_only=True)
class KVLoss:
    """``½ (λ_k d(K) + λ_v d(V)) + β cosine``: distance of keys and values, slot by slot.

    Only slots valid on both sides count. A sample's loss is a mean over heads, valid slots and width, then
    over layers; the loss is the mean over samples, where a sample without a valid slot counts as 0. The
    target is not detached here: captured caches are detached at capture, and adapters that produce the target
    are trained through this loss.

    Source: https://arxiv.org/abs/2510.02312, equation 7 (loss, division by the teacher's standard deviation);
    ``axis="tokens"`` and the cosine term: ours.
    Differs: means where equation 7 sums over heads and width (``reduction="paper_sum"`` sums them); K and V
    have a standard deviation each, that of the sample's un-rotated tensor, no gradient through it, and
    cosines, having no unit, are not divided.
    """

    kind: Literal["kv"] = "kv"
    distance: Distance | Literal["cosine"] = "mse"
    """``mse``, ``l1``, ``smooth_l1`` of each element, or ``cosine``: 1 - cosine of each vector."""
    lambda_k: float = 1.0
    """λ_k, weight of the keys."""
    lambda_v: float = 1.0
    """λ_v, weight of the values."""
    cosine_weight: float = 0.0
    """β: adds ``½ (cosine(K) + cosine(V))`` to another distance."""
    beta: float = 1.0
    """Absolute difference at which ``smooth_l1`` changes from quadratic to linear."""
    layer_std: bool = True
    """Divide a layer's distance by the standard deviation of that sample's target."""
    reduction: Literal["mean", "paper_sum"] = "mean"
    """``paper_sum`` is heads x width times the mean, so a weight found for one does not fit the other."""
    frame: Literal["pre_rope", "as_cached"] = "pre_rope"
    """``pre_rope``: un-rotated keys. ``as_cached``: keys rotated to their absolute positions; this needs a
    ``CachedFrame`` in the inputs.
    """
    axis: Literal["slots", "tokens"] = "slots"
    """``slots``: slot against slot. ``tokens``: the target keeps its N tokens and the student's cache is
    interpolated to them.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"target"})

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        require_positive_beta(self.beta)
        if min(self.lambda_k, self.lambda_v, self.cosine_weight) < 0:
            raise ValueError(
                "KVLoss: lambda_k, lambda_v and cosine_weight must not be negative; set 0 to leave a term "
                "out."
            )
        if self.distance == "cosine" and self.reduction == "paper_sum":
            raise ValueError(
                "KVLoss: a cosine has no width to sum over. Set reduction to 'mean', or distance to mse, l1 "
                "or smooth_l1."
            )
        if self.axis == "tokens" and self.frame == "as_cached":
            raise ValueError(
                "KVLoss: rotated keys cannot be interpolated. Set frame to 'pre_rope' for axis 'tokens'."
            )

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The mean over samples, summed over pairs.

        Args:
            inputs: At least one pair of target and student cache, both un-rotated; each pair is weighed by
                its share of the sample.

        Returns:
            A scalar and the metrics ``kv`` (the same), ``kv_k`` and ``kv_v`` (distances of keys and of values
            before λ and ½), ``kv_layer0``, ... (the loss of each compared layer, whatever its weight) and,
            for ``tokens``, ``kv_lower_bound``: the loss of the best possible student under a squared distance
            without the cosine term.

        Raises:
            ValueError: if keys are rotated, shapes differ, the frame is missing, or no layer has a weight.
        """
        if not inputs.pairs:
            raise ValueError(
                "KVLoss: there is no target cache to compare with. Pass one, or set kv_weight to 0."
            )
        layers = [
            self.per_layer(pair.target, pair.student, inputs.frame, pair.scale) for pair in inputs.pairs
        ]
        parts = [
            shared(weighted_mean(each, pair.layer_weights), pair.share)
            for each, pair in zip(layers, inputs.pairs, strict=True)
        ]
        # (pairs, 3, B) -> (3, B) -> loss, distance of keys, distance of values
        loss, keys, values = torch.stack(parts).sum(0).mean(-1)
        metrics = {"kv": loss.detach(), "kv_k": keys.detach(), "kv_v": values.detach()}
        metrics |= losses_by_layer(layers, inputs.pairs)
        if self.axis == "tokens":
            metrics["kv_lower_bound"] = torch.stack([self._lower_bound(pair) for pair in inputs.pairs]).sum()
        return LossOutput(loss, metrics)

    def _lower_bound(self, pair: KVPair) -> Float[Tensor, ""]:
        # The fit already has the target's token axis, so the same loss compares slot by slot.
        bound = replace(self, axis="slots", distance="mse", cosine_weight=0.0)
        # Outside the graph: the bound depends on the target and on masks alone.
        best = least_squares_reconstruction(pair.target, pair.student)
        losses = bound.per_sample(pair.target.detach(), best, None, pair.layer_weights, pair.scale)
        # Row 0 is the loss; rows 1 and 2 are the distances of keys and of values.
        return shared(losses, pair.share)[0].mean().detach()

    def per_sample(
        self,
        target: ModelKV,
        student: ModelKV,
        frame: CachedFrame | None = None,
        layer_weights: Float[Tensor, " L"] | None = None,
        scale: Float[Tensor, "L 2"] | None = None,
    ) -> Float[Tensor, "3 B"]:
        """Loss, distance of the keys and distance of the values of each sample.

        Args:
            target: The target cache, un-rotated, M slots or N tokens.
            student: The student's cache in the target's heads and widths, un-rotated, M slots.
            frame: Rotations and start positions; needed where ``self.frame`` is ``as_cached``.
            layer_weights: (L,), weight of each compared layer; None weighs all alike.
            scale: (L, 2), divisors of the distances of keys and of values in place of the target's standard
                deviations; without ``layer_std`` neither is used.

        Returns:
            (3, B): loss, distance of keys and distance of values, the latter two before λ and ½.

        Raises:
            ValueError: as in ``__call__``.
        """
        # (L, 3, B) -> (3, B)
        return weighted_mean(self.per_layer(target, student, frame, scale), layer_weights)

    def per_layer(
        self,
        target: ModelKV,
        student: ModelKV,
        frame: CachedFrame | None = None,
        scale: Float[Tensor, "L 2"] | None = None,
    ) -> Float[Tensor, "L 3 B"]:
        """Loss, distance of the keys and distance of the values of each layer and sample.

        Args:
            target: As in ``per_sample``, like the others.
            student: The student's cache.
            frame: Rotations and start positions.
            scale: (L, 2), divisors of the distances.

        Returns:
            (L, 3, B): loss, distance of keys and distance of values, the latter two before λ and ½.

        Raises:
            ValueError: as in ``__call__``.
        """
        require_unrotated(target, "losses/kv_loss (target)")
        require_unrotated(student, "losses/kv_loss (student)")
        require_same_shape(target, student, self.axis)
        if self.axis == "tokens":
            target, student = read_at_tokens(target, student)
        cached = None
        if self.frame == "as_cached":
            cached = _require_frame(frame, len(student.layers))
        elif stackable(target.layers) and stackable(student.layers):
            return self._stacked(target, student, scale)
        layers = []
        for index, (ours, theirs) in enumerate(zip(student.layers, target.layers, strict=True)):
            # Taken before the rotation, so that both frames divide by the same number.
            scales = self._scales(theirs)
            if scale is not None and self.layer_std:
                # (2,) -> (2, B)
                scales = scale[index][:, None].expand_as(scales)
            if cached is not None:
                theirs, ours = cached.turn(index, theirs, ours)
            layers.append(self._layer(theirs, ours, scales))
        return torch.stack(layers)

    def _stacked(
        self, target: ModelKV, student: ModelKV, scale: Float[Tensor, "L 2"] | None
    ) -> Float[Tensor, "L 3 B"]:
        """All layers at once, as one batch of L B samples."""
        number, theirs = len(target.layers), stack(target.layers)
        scales = self._scales(theirs)
        if scale is not None and self.layer_std:
            # (L, 2) -> (2, L B)
            scales = scale.T.repeat_interleave(scales.shape[1] // number, dim=1).expand_as(scales)
        found = self._layer(theirs, stack(student.layers), scales)
        # (3, L B) -> (L, 3, B)
        return found.unflatten(1, (number, -1)).transpose(0, 1)

    def _scales(self, target: LayerKV) -> Float[Tensor, "2 B"]:
        """Divisors of the distances of keys and values: standard deviations, or 1 without ``layer_std``."""
        if not self.layer_std:
            return torch.ones(2, target.keys.shape[0], device=target.keys.device)
        return torch.stack(
            [
                masked_std(mask_invalid(x.detach(), target.mask), target.mask)
                for x in (target.keys, target.values)
            ]
        )

    def _layer(self, target: LayerKV, student: LayerKV, scales: Float[Tensor, "2 B"]) -> Float[Tensor, "3 B"]:
        # Spare slots of either side count neither as an error nor in the mean.
        mask = target.mask & student.mask
        pairs = [
            (mask_invalid(t, mask), mask_invalid(s, mask))
            for t, s in ((target.keys, student.keys), (target.values, student.values))
        ]
        keys, values = (
            self._distance(t, s, mask, scale) for (t, s), scale in zip(pairs, scales, strict=True)
        )
        # Equation 7: ½ (λ_k d(K) + λ_v d(V)), then the cosine term.
        loss = 0.5 * (self.lambda_k * keys + self.lambda_v * values)
        if self.cosine_weight:
            loss = loss + self.cosine_weight * 0.5 * sum(_cosine(t, s, mask) for t, s in pairs)
        return torch.stack((loss, keys, values))

    def _distance(
        self,
        target: Float[Tensor, "B H T W"],
        student: Float[Tensor, "B H T W"],
        mask: Bool[Tensor, "B H T"],
        scale: Float[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        if self.distance == "cosine":
            return _cosine(target, student, mask)
        # (B, H, T, W) -> (B,)
        each = elementwise(target, student, self.distance, self.beta)
        mean = masked_mean(each, mask[..., None].expand_as(each), (1, 2, 3))
        # The paper's sum over heads and width, still a mean over slots.
        if self.reduction == "paper_sum":
            mean = mean * (each.shape[1] * each.shape[-1])
        return mean / scale


def _cosine(
    target: Float[Tensor, "B H T W"], student: Float[Tensor, "B H T W"], mask: Bool[Tensor, "B H T"]
) -> Float[Tensor, " B"]:
    # (B, H, T) -> (B,), over heads and valid slots.
    return masked_mean(1 - functional.cosine_similarity(target, student, dim=-1), mask, (1, 2))


def _require_frame(frame: CachedFrame | None, num_layers: int) -> CachedFrame:
    if frame is None:
        raise ValueError(
            "KVLoss: frame 'as_cached' needs a CachedFrame (rotations and start positions). Pass one, or "
            "set 'pre_rope'."
        )
    if len(frame.ropes) != num_layers:
        raise ValueError(
            f"KVLoss: the CachedFrame holds {len(frame.ropes)} rotations for {num_layers} layers. Give one "
            "entry a layer."
        )
    return frame
