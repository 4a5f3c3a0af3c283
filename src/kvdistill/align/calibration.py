"""Calibration: fits a teacher's adapter to the student's own cache, and reports it on held-out samples.

Every sample is in one of three parts, by a hash of its id: 64 % to fit, 16 % to choose the penalty, 20 % to
report.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kvdistill.align.adapter_base import AdapterSettings
from kvdistill.align.adapter_report import AdapterReport, MapReport
from kvdistill.align.head_dim_adapter import Adapter, layer_blocks
from kvdistill.align.heads import flatten_heads, shared_mask
from kvdistill.align.layer_map import LayerMap
from kvdistill.align.moments import Moments
from kvdistill.align.ridge import RidgeFit, fit_ridge
from kvdistill.align.shared_map import pooled, shared_block
from kvdistill.kv import Geometry, LayerKV, ModelKV, require_unrotated
from kvdistill.ops import EPSILON

Part = Literal["fit", "choose", "report"]
States = Literal["keys", "values"]
PARTS: tuple[Part, ...] = ("fit", "choose", "report")
SHARES: dict[Part, float] = {"fit": 0.64, "choose": 0.16, "report": 0.2}
STATES: tuple[States, ...] = ("keys", "values")


def part_of(sample_id: str) -> Part:
    """The part of a sample: 16/25 fit, 4/25 choose, 5/25 report.

    Args:
        sample_id: Id of the sample.

    Returns:
        The same part in every process and run.
    """
    number = int.from_bytes(blake2b(sample_id.encode(), digest_size=8).digest(), "big") % 25
    if number < 16:
        return "fit"
    if number < 20:
        return "choose"
    return "report"


class Calibration:
    """Streaming float64 moments of a teacher's cache and the student's own, per student layer.

    Args:
        student: The student's L attention layers.
        teacher: The teacher's attention layers.
        layer_map: The teacher layers of each student layer.
        device: Where the moments are kept and the regression is solved.
    """

    def __init__(
        self,
        student: Geometry,
        teacher: Geometry,
        layer_map: LayerMap,
        device: torch.device | str = "cpu",
    ) -> None:
        self.student, self.teacher, self.layer_map = student, teacher, layer_map
        self.device = device
        self.blocks = layer_blocks(student, teacher, layer_map)
        # By student layer, keys or values, and part.
        self.moments: list[dict[States, dict[Part, Moments]]] = []
        for pair in self.blocks:
            named = zip(STATES, pair, strict=True)
            self.moments.append(
                {name: {part: Moments(b.inputs, b.outputs, device) for part in PARTS} for name, b in named}
            )

    @staticmethod
    def bytes_needed(student: Geometry, teacher: Geometry, layer_map: LayerMap) -> int:
        """Memory of the moments, known before they are allocated.

        Args:
            student: The student's attention layers.
            teacher: The teacher's attention layers.
            layer_map: The teacher layers of each student layer.

        Returns:
            Bytes.
        """
        blocks = layer_blocks(student, teacher, layer_map)
        each = [Moments.bytes_needed(block.inputs, block.outputs) for pair in blocks for block in pair]
        return len(PARTS) * sum(each)

    def add(self, aligned: ModelKV, student: ModelKV, sample_ids: Sequence[str]) -> None:
        """Add the tokens of a batch that the teacher covers.

        Args:
            aligned: The teacher's cache at the student's N tokens, all layers, un-rotated.
            student: The student's own cache over the same tokens (teacher mode), un-rotated.
            sample_ids: The ids of the B samples; they decide in which part each is.
        """
        for kv in (aligned, student):
            require_unrotated(kv, "align/calibration")
        valid = shared_mask(aligned) & shared_mask(student)
        parts = [part_of(sample_id) for sample_id in sample_ids]
        for part in PARTS:
            member = torch.tensor([found == part for found in parts], device=valid.device)
            chosen = valid & member[:, None]
            for index in range(len(self.blocks)):
                self._add(index, part, chosen, aligned, student)

    def all_reduce(self, all_reduce_sum: Callable[[Tensor], Tensor]) -> None:
        """Sum over the processes of a run, each of which has added other samples.

        Args:
            all_reduce_sum: Sum of a tensor over all processes.
        """
        for moments in self._all():
            moments.all_reduce(all_reduce_sum)

    def tokens(self) -> dict[Part, int]:
        """Tokens added so far, by part.

        Returns:
            Counts of student tokens that the teacher covers.
        """
        return {part: int(self.moments[0]["keys"][part].count) for part in PARTS}

    def student_std(self) -> tuple[Float[Tensor, " L"], Float[Tensor, " L"]]:
        """Standard deviation of the student's own keys and values, the scale for aligned targets.

        Returns:
            Per layer over heads, tokens of all parts and channels, at least 1e-6; keys and values, float32.
        """
        found = []
        for name in STATES:
            each = [_std([moments[name][part] for part in PARTS]) for moments in self.moments]
            found.append(torch.stack(each).float().cpu())
        return found[0], found[1]

    @torch.no_grad()
    def solve(self, method: AdapterSettings) -> tuple[Adapter, AdapterReport]:
        """Fit the adapter and measure it on held-out samples.

        Args:
            method: The adapter's settings.

        Returns:
            The adapter, on the CPU, and its report.

        Raises:
            ValueError: if there is too little text; names the number of tokens needed.
        """
        self._require_tokens(method)
        adapter = Adapter(self.student, self.teacher, self.layer_map, method)
        fits = self._fit(adapter)
        reports = []
        for index, layer_id in enumerate(self.student.layer_ids):
            pairs = self.layer_map.of(index)
            theirs = tuple(self.teacher.layer_ids[pair.teacher] for pair in pairs)
            for name in STATES:
                found = fits.get((name, index))
                penalty = condition = None
                if found is not None:
                    penalty, condition = found.penalty, found.condition
                r2 = self._r2(adapter, index, name)
                reports.append(MapReport(layer_id, theirs, name, r2, penalty, condition))
        return adapter, AdapterReport(
            tuple(reports), {str(part): count for part, count in self.tokens().items()}
        )

    @torch.no_grad()
    def r2(self, adapter: Adapter) -> list[float]:
        """What an adapter explains of the student's cache on the samples of the report.

        Args:
            adapter: An adapter of these layers, such as one that was trained since ``solve``.

        Returns:
            1 - error / variance of each map, in the order of the maps in the report of ``solve``.
        """
        return [self._r2(adapter, index, name) for index in range(len(self.blocks)) for name in STATES]

    def _all(self) -> list[Moments]:
        states = [moments[name] for moments in self.moments for name in STATES]
        return [parts[part] for parts in states for part in PARTS]

    def _add(
        self, index: int, part: Part, chosen: Bool[Tensor, "B N"], aligned: ModelKV, student: ModelKV
    ) -> None:
        ids = [self.teacher.layer_ids[pair.teacher] for pair in self.layer_map.of(index)]
        theirs = [aligned.layers[aligned.layer_ids.index(layer_id)] for layer_id in ids]
        ours = student.layers[student.layer_ids.index(self.student.layer_ids[index])]
        for name in STATES:
            # (B, N, heads x width) -> (n, heads x width), the chosen layers side by side.
            x = torch.cat([_tokens(layer, name, chosen) for layer in theirs], dim=-1)
            self.moments[index][name][part].add(x, _tokens(ours, name, chosen))

    def _fit(self, adapter: Adapter) -> dict[tuple[States, int], RidgeFit]:
        """Fit all maps in place; the fit of each, by student layer. Empty for maps that are not fitted."""
        grid, found = adapter.method.penalty_grid(), {}
        for name in STATES:
            for index in range(len(self.blocks)):
                self._require_finite(self.moments[index][name]["fit"], index, name)
            if not grid:
                continue
            for place, module in enumerate(getattr(adapter, name)):
                fitted = fit_ridge(*self._to_fit(adapter.method, name, place), grid)
                module.weight.copy_(fitted.weight)
                module.bias.copy_(fitted.bias)
                layers = [place]
                if adapter.method.one_map:
                    layers = list(range(len(self.blocks)))
                found |= {(name, index): fitted for index in layers}
        return found

    def _to_fit(self, method: AdapterSettings, name: States, place: int) -> tuple[Moments, Moments]:
        """The moments to fit a map on, and those to choose its penalty on."""
        if not method.one_map:
            parts = self.moments[place][name]
            return parts["fit"], parts["choose"]
        blocks = [pair[STATES.index(name)] for pair in self.blocks]
        fit = pooled([moments[name]["fit"] for moments in self.moments], blocks)
        return fit, pooled([moments[name]["choose"] for moments in self.moments], blocks)

    def _r2(self, adapter: Adapter, index: int, name: States) -> float:
        """1 - error / variance of one map on the report part."""
        report = self.moments[index][name]["report"]
        weight_and_bias = adapter.affine(name, index)
        if weight_and_bias is None:
            inputs = report.x.shape[0]
            weight_and_bias = torch.eye(inputs), torch.zeros(inputs)
        error = report.error(*weight_and_bias)
        total = report.variance().sum()
        # A constant has no variance to explain.
        if total <= 0:
            return 0.0
        return 1 - float(error / total)

    def _require_finite(self, fit: Moments, index: int, name: str) -> None:
        for whose, products in (("student's", fit.yy), ("teacher's", fit.xx)):
            if not products.isfinite().all():
                raise ValueError(
                    f"calibration: {name} of the {whose} cache for student layer "
                    f"{self.student.layer_ids[index]} are not finite. Look for overflow in that model's "
                    "forward pass: float16 is the usual cause; set its dtype to bfloat16 or float32."
                )

    def _require_tokens(self, method: AdapterSettings) -> None:
        tokens = self.tokens()
        needed: dict[Part, int] = dict.fromkeys(PARTS, 2)
        if method.penalty_grid():
            # As many tokens as unknowns per target: the weights and the bias.
            blocks = [block for pair in self.blocks for block in pair]
            if method.one_map:
                blocks = [shared_block(list(each)) for each in zip(*self.blocks, strict=True)]
            needed["fit"] = 1 + max(block.inputs for block in blocks)
        short: list[Part] = [part for part in PARTS if tokens[part] < needed[part]]
        if not short:
            return
        part = short[0]
        raise ValueError(
            f"calibration: the part of the samples to {part} has {tokens[part]} tokens that the teacher "
            f"covers, and {needed[part]} are needed, about {round(needed[part] / SHARES[part])} in all three "
            "parts. Give more or longer training samples, or a layer map with fewer teacher layers."
        )


def _tokens(layer: LayerKV, name: str, chosen: Bool[Tensor, "B N"]) -> Float[Tensor, "n w"]:
    return flatten_heads(getattr(layer, name), layer.mask)[chosen]


def _std(parts: list[Moments]) -> Float[Tensor, ""]:
    """Standard deviation of all targets together, about one mean, over all parts."""
    count = _sum([part.count for part in parts]) * parts[0].y.shape[0]
    mean = _sum([part.y for part in parts]) / count
    square = _sum([part.yy for part in parts]) / count
    return (square - mean.square()).clamp_min(0).sqrt().clamp_min(EPSILON)


def _sum(tensors: list[Tensor]) -> Float[Tensor, ""]:
    return torch.stack(tensors).sum()
