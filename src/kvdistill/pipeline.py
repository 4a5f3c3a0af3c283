"""The whole walk on one page: from both modes of a student to one loss.

In self-distillation the target is compressed from teacher mode's own cache; nothing has to be aligned or
fused.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kvdistill.align.projector import Projector
from kvdistill.compress import RKV, CompressorMethod, Full
from kvdistill.kv import Geometry, LayerKV, LossOutput, ModelKV, TwoModes, full_mask
from kvdistill.losses.geometry import CachedFrame
from kvdistill.losses.kv_loss import annealed_layer_weights
from kvdistill.losses.total import Objective, auto_weight, cross_entropy, gradient_norm, reference_norm
from kvdistill.target.controls import Control, MeanTarget, NoControl
from kvdistill.target.mean import TargetMean
from kvdistill.teacher.causal_lm import FrozenTeacher
from kvdistill.text import Batch

Step = Callable[[nn.Module, Batch, int, float], LossOutput]
"""What training asks for: (model, batch, step, progress 0..1) -> loss; losses and targets are not its
business.
"""


@runtime_checkable
class Stateful(Protocol):
    """A step that carries tensors from batch to batch, which belong into checkpoints."""

    def state(self) -> dict[str, Tensor]:
        """What it carries, by name."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what ``state`` gave."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A step that has to see the first optimiser step's batches together, before the first of them counts."""

    def prepare(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        """Called before the first optimiser step, with the model itself rather than a distributed wrapper."""
        ...


@dataclass(frozen=True, kw_only=True)
class Target:
    """How the teacher's cache becomes the student's target."""

    method: CompressorMethod = field(default_factory=RKV)
    control: Control = field(default_factory=NoControl)
    """A negative control in place of the sample's own target."""
    anneal_layers: float = 0.0
    """Share of the steps in which only the lowest third of the layers counts."""


@dataclass(frozen=True)
class Built:
    """A target, and the data-set mean to carry to the next batch."""

    kv: ModelKV
    mean: TargetMean | None


def build_target(  # noqa: PLR0913  (the walk's one joint)
    teacher: ModelKV,
    target: Target,
    slots: int,
    chain: Int[Tensor, " B"],
    draw: int,
    mean: TargetMean | None = None,
    total: Callable[[Tensor], Tensor] = lambda values: values,
) -> Built:
    """Teacher mode's cache, compressed to ``slots`` slots, or what a control puts in its place.

    ``chain`` marks equal chains of thought and ``draw`` seeds the partners of a control, who are of the same
    process; ``mean`` is the data-set mean of the batches before, for the control that needs it, and ``total``
    sums what goes into it over all processes.

    Raises:
        ValueError: as the compressor and the control do.
    """
    compressed = target.method.compress(teacher, slots)
    if isinstance(target.control, MeanTarget):
        mean = TargetMean.over(compressed, mean, total)
    return Built(target.control.apply(compressed, chain, draw, mean), mean)


def rehearse(target: Target, slots: int, batch_size: int) -> None:
    """Build targets from two made-up batches, so that settings that contradict each other are refused before
    anything is loaded.

    Raises:
        ValueError: as ``build_target`` does.
    """
    mean = None
    for length in (slots + 1, slots + 2):
        keys = torch.ones(min(batch_size, 2), 1, length, 1)
        mask = full_mask(keys)
        positions = torch.arange(length).expand(mask.shape)
        layer = LayerKV(keys, keys, mask, positions, importance=keys[..., 0], step_end=mask)
        mean = build_target(
            ModelKV((layer,), (0,), "the rehearsal"), target, slots, torch.arange(len(keys)), 0, mean
        ).mean


@dataclass(frozen=True)
class OutsideTeacher:
    """A frozen teacher beside the student, and what lifts the student's cache to its heads and widths."""

    teacher: FrozenTeacher
    projector: Projector


@dataclass(frozen=True)
class Matched:
    """What the KV loss compares, in one geometry."""

    two: TwoModes
    target: ModelKV
    frame: CachedFrame | None
    ranges: dict[str, Tensor]


@dataclass
class Distillation:
    """KaVa's step: both modes, the target, the losses. Carries what outlives a batch: the data-set mean and
    ``auto``'s weight.

    Source: KaVa, https://arxiv.org/abs/2510.02312, section 3.
    """

    target: Target
    objective: Objective
    slots: int
    geometry: Callable[[], Geometry]
    both_delimiters: bool = False
    outside: OutsideTeacher | None = None
    """A separate teacher whose cache is the target; None where the student's own teacher mode is the teacher.
    """
    total: Callable[[Tensor], Tensor] = lambda values: values
    """The sum over the processes of a distributed run: what is measured over a batch is measured over all of
    it.
    """
    mean: TargetMean | None = None
    weight: float | None = None
    """What ``kv_weight = "auto"`` came to on the first batches."""

    def __post_init__(self) -> None:
        """Match the loss geometry to the compressor: ``full`` keeps its tokens, so the student is read at
        them.

        Raises:
            ValueError: if the objective has a setting that does not go with that geometry.
        """
        full = isinstance(self.target.method, Full)
        if self.objective.kv.geometry == "tokens" and not full:
            raise ValueError(
                "loss.kv.geometry 'tokens' reads the student at every token of the target, but "
                f"target.method {self.target.method.kind} "
                "keeps no more tokens than there are slots. Leave loss.kv.geometry out, or choose "
                "target.method full."
            )
        self.objective = replace(
            self.objective, kv=replace(self.objective.kv, geometry="tokens" if full else "slots")
        )

    def __call__(self, model: nn.Module, batch: Batch, step: int, progress: float) -> LossOutput:
        """Loss of one batch, with every term among the metrics."""
        self.prepare(model, [batch])
        two: TwoModes = model(batch=batch)
        if not (self.objective.kv_weight or self.objective.attention_weight):
            return self.objective.compare(two, None)
        matched, weights = (
            self._match(two, batch, step),
            self._layer_weights(len(two.student.kv.layers), progress),
        )
        objective, metrics = self.objective, matched.ranges
        if objective.kv_weight == "auto":
            assert self.weight is not None
            objective = replace(objective, kv_weight=self.weight)
            metrics = metrics | {"kv_weight": torch.tensor(self.weight)}
        loss = objective.compare(matched.two, matched.target, matched.frame, weights)
        return LossOutput(loss.loss, loss.metrics | metrics)

    def prepare(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        """Find the weight that ``auto`` stands for, once: from the first batches of all processes together,
        with all layers counted.

        It is the same however the samples are shared out over processes and small batches. Nothing else
        changes, the state of the random numbers included.
        """
        if self.objective.kv_weight != "auto" or self.weight is not None:
            return
        mean, device = self.mean, batches[0].chain.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            counts, references = zip(*(self._pull(model, batch) for batch in batches), strict=True)
        self.mean = mean
        whole, squares = self.total(torch.stack(counts).sum(0)).tolist()
        self.weight = auto_weight(math.sqrt(squares) / whole, references[0] / math.sqrt(whole))

    def _pull(self, model: nn.Module, batch: Batch) -> tuple[Float[Tensor, "2"], float]:
        """How many samples the batch has and the sum of their squared gradient norms, and the reference norm
        of one sample.

        The gradient of a batch is that of its mean; samples pull independently, so their squares add up.
        """
        two: TwoModes = model(batch=batch)
        matched, own, size = self._match(two, batch, step=0), two.student.kv, len(batch)
        every_layer = self._layer_weights(len(own.layers), progress=1.0)
        loss = self.objective.kv.compare(
            matched.target, matched.two.student.kv, matched.frame, every_layer
        ).loss
        counts = torch.tensor(
            [size, (size * gradient_norm(loss, own)) ** 2], dtype=torch.float64, device=batch.chain.device
        )
        return counts, reference_norm(own) * math.sqrt(size)

    def _match(self, two: TwoModes, batch: Batch, step: int) -> Matched:
        """The target of a batch, and the student's cache in the target's geometry."""
        teacher = two.teacher.kv if self.outside is None else self.outside.teacher.read(batch)
        built = build_target(teacher, self.target, self.slots, batch.chain, step, self.mean, self.total)
        target, self.mean = built.kv, built.mean
        if self.outside is not None:
            target, two = self.outside.projector.select(target), two.lifted()
        frame = self.frame(batch) if self.objective.kv.frame == "as_cached" else None
        return Matched(
            two,
            target,
            frame,
            self.target.method.ranges(teacher) if isinstance(self.target.method, RKV) else {},
        )

    def state(self) -> dict[str, Tensor]:
        """What belongs into a checkpoint: ``auto``'s weight, the data-set mean, the projector."""
        state = {} if self.weight is None else {"weight": torch.tensor(self.weight, dtype=torch.float64)}
        state |= (
            {}
            if self.mean is None
            else {f"mean/{name}": value for name, value in self.mean.tensors().items()}
        )
        lifts = {} if self.outside is None else self.outside.projector.state_dict()
        return state | {f"projector/{name}": value for name, value in lifts.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what ``state`` gave."""

        def part(owner: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(owner): value for name, value in state.items() if name.startswith(owner)
            }

        self.weight = float(state["weight"]) if "weight" in state else None
        self.mean = TargetMean.of(part("mean/")) if part("mean/") else None
        if self.outside is not None:
            self.outside.projector.load_state_dict(part("projector/"))

    def _layer_weights(self, num_layers: int, progress: float) -> Float[Tensor, " L"] | None:
        share = self.target.anneal_layers
        weights = annealed_layer_weights(progress, num_layers, share) if progress < share else None
        return weights if self.outside is None else self.outside.projector.weights(weights)

    def frame(self, batch: Batch) -> CachedFrame:
        """Where the target's token 0 and the student's slot 0 stand in their own caches."""
        question = batch.question.lengths
        return CachedFrame(
            ropes=tuple(layer.rope for layer in self.geometry().layers),
            teacher_start=question + batch.cue.lengths + int(self.both_delimiters),
            student_start=question + batch.student_cue.lengths + 1,
        )


def explicit_step(model: nn.Module, batch: Batch, step: int, progress: float) -> LossOutput:
    """Plain supervised fine-tuning of teacher mode: explicit chains of thought, or direct answers where they
    are empty.
    """
    rows = model(batch=batch, mode="teacher").rows
    loss = cross_entropy(rows, len(batch))
    return LossOutput(loss, {"ce_teacher": loss.detach()})
