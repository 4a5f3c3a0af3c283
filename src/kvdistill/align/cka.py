"""Layer map by similarity: linear CKA of the caches of student and teacher layers on calibration data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.align.heads import flatten_heads, shared_mask
from kvdistill.align.layer_map import LayerMap, LayerPair, LayerSelector, layer_kind
from kvdistill.kv import Geometry, LayerGeometry, ModelKV, require_unrotated

FLOAT64 = 8
"""Bytes of a number."""
CONSTANT = 1e-13
"""Share of variance in the mean square below which a layer counts as constant, in float64."""


@dataclass(frozen=True, kw_only=True)
class CKA(LayerSelector):
    """The two teacher layers of highest linear CKA, weighted by it; both of the kind of the first.

    Source: https://arxiv.org/abs/1905.00414, section 3 (linear CKA).
    """

    kind: Literal["cka"] = "cka"
    needs_similarity: ClassVar[bool] = True

    def pair(
        self,
        student: Geometry,
        teacher: Geometry,
        similarity: Float[Tensor, "layers_s layers_t"] | None = None,
    ) -> LayerMap:
        if similarity is None:
            raise ValueError(
                "layers.kind cka: the layers are paired by their similarity on calibration data, and none "
                "was measured. Set bridge.kind to lower, which calibrates, or layers.kind to ratio."
            )
        kinds = [layer_kind(layer) for layer in teacher.layers]
        pairs = []
        for layer in range(len(student.layers)):
            # A stable sort: of two equals the lower layer comes first.
            order = similarity[layer].argsort(descending=True, stable=True).tolist()
            chosen = [other for other in order if kinds[other] == kinds[order[0]]][:2]
            values = similarity[layer, chosen].clamp_min(0).double()
            weights = torch.full_like(values, 1 / len(chosen))
            # Two layers that share nothing with the student's get equal weights.
            if values.sum() > 0:
                weights = values / values.sum()
            found = zip(chosen, weights.tolist(), strict=True)
            # A weight of 0 would be a pair without effect.
            pairs += [LayerPair(layer, other, weight) for other, weight in sorted(found) if weight > 0]
        return LayerMap(tuple(pairs))


class LayerSimilarity:
    """Linear CKA of every student layer with every teacher layer, from streamed float64 covariances.

    Args:
        student: The student's L_s attention layers.
        teacher: The teacher's L_t attention layers.
        device: Where the sums are kept.

    Source: https://arxiv.org/abs/1905.00414, section 3: ``|X'Y|² / (|X'X| |Y'Y|)`` of centered X and Y; the
    mean of the keys' and the values'.
    """

    def __init__(self, student: Geometry, teacher: Geometry, device: torch.device | str = "cpu") -> None:
        self.student, self.teacher = student, teacher

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.count = zeros()
        # By keys (0) and values (1): sums of all layers, the student's first, their products with themselves,
        # and the products of each student layer with each teacher layer.
        self.sums: list[list[Tensor]] = []
        self.own: list[list[Tensor]] = []
        self.cross: list[list[list[Tensor]]] = []
        for which in range(2):
            ours, theirs = _widths(student, which), _widths(teacher, which)
            self.sums.append([zeros(width) for width in ours + theirs])
            self.own.append([zeros(width, width) for width in ours + theirs])
            self.cross.append([[zeros(left, right) for right in theirs] for left in ours])

    @staticmethod
    def bytes_needed(student: Geometry, teacher: Geometry) -> int:
        """Memory of the sums, known before they are allocated.

        Args:
            student: The student's attention layers.
            teacher: The teacher's attention layers.

        Returns:
            Bytes.
        """
        total = 1
        for which in range(2):
            ours, theirs = _widths(student, which), _widths(teacher, which)
            total += (1 + sum(theirs)) * sum(ours) + sum(theirs)
            total += sum(width**2 for width in (*ours, *theirs))
        return FLOAT64 * total

    def add(self, aligned: ModelKV, student: ModelKV) -> None:
        """Add the tokens of a batch that the teacher covers.

        Args:
            aligned: The teacher's cache at the student's N tokens, all layers, un-rotated.
            student: The student's own cache over the same tokens, un-rotated.
        """
        require_unrotated(aligned, "align/cka")
        require_unrotated(student, "align/cka")
        valid = shared_mask(aligned) & shared_mask(student)
        self.count += valid.sum()
        for which, name in enumerate(("keys", "values")):
            ours, theirs = (
                [flatten_heads(getattr(layer, name), layer.mask)[valid] for layer in kv.layers]
                for kv in (student, aligned)
            )
            self._add(which, [self._wide(x) for x in ours], [self._wide(x) for x in theirs])

    def all_reduce(self, all_reduce_sum: Callable[[Tensor], Tensor]) -> None:
        """Sum over the processes of a run, each of which has added other samples.

        Args:
            all_reduce_sum: Sum of a tensor over all processes.
        """
        self.count = all_reduce_sum(self.count)
        self.sums = [[all_reduce_sum(each) for each in layers] for layers in self.sums]
        self.own = [[all_reduce_sum(each) for each in layers] for layers in self.own]
        self.cross = [[[all_reduce_sum(each) for each in row] for row in rows] for rows in self.cross]

    def similarity(self) -> Float[Tensor, "layers_s layers_t"]:
        """The CKA of every pair of layers.

        Returns:
            (L_s, L_t), from 0 to 1, float64 on the CPU.

        Raises:
            ValueError: if fewer than two tokens were added.
        """
        if self.count < 2:
            raise ValueError(
                f"layers.kind cka: {int(self.count)} tokens for calibration are covered by the teacher, and "
                "at least 2 are needed. Give more training samples."
            )
        found = [self._similarity(which) for which in range(2)]
        return torch.stack(found).mean(0).cpu()

    def _wide(self, states: Float[Tensor, "n w"]) -> Float[Tensor, "n w"]:
        return states.detach().to(device=self.count.device, dtype=torch.float64)

    def _add(self, which: int, ours: list[Tensor], theirs: list[Tensor]) -> None:
        for x, row in zip(ours, self.cross[which], strict=True):
            for y, product in zip(theirs, row, strict=True):
                product += x.T @ y
        for x, total, product in zip(ours + theirs, self.sums[which], self.own[which], strict=True):
            total += x.sum(0)
            product += x.T @ x

    def _similarity(self, which: int) -> Float[Tensor, "layers_s layers_t"]:
        means = [total / self.count for total in self.sums[which]]
        num_ours = len(self.student.layers)

        def centered(product: Tensor, left: Tensor, right: Tensor) -> Tensor:
            return product - self.count * torch.outer(left, right)

        norms = []
        for product, mean in zip(self.own[which], means, strict=True):
            norm = centered(product, mean, mean).norm()
            # What is left of a constant layer is rounding: it has no direction in common with any other.
            is_constant = norm <= CONSTANT * product.norm()
            norms.append(torch.where(is_constant, torch.inf, norm))
        rows = []
        for row, left, x in zip(self.cross[which], means, norms, strict=False):
            ends = zip(row, means[num_ours:], norms[num_ours:], strict=True)
            rows.append(
                torch.stack([centered(c, left, right).square().sum() / (x * y) for c, right, y in ends])
            )
        return torch.stack(rows)


def _widths(geometry: Geometry, which: int) -> list[int]:
    """Heads x width of every layer, of keys (0) or values (1)."""
    return [_width(layer, which) for layer in geometry.layers]


def _width(layer: LayerGeometry, which: int) -> int:
    return layer.heads * (layer.key_width, layer.value_width)[which]
