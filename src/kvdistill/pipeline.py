"""The whole walk on one page: from both modes of a student to one loss.

In self-distillation the target is compressed from teacher mode's own cache; nothing has to be aligned or fused.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor, nn

from kvdistill.compress import CompressorMethod, Full, StepEnd
from kvdistill.kv import Geometry, LossOutput, ModelKV, TwoModes
from kvdistill.losses.controls import Control, MeanTarget, NoControl
from kvdistill.losses.geometry import CachedFrame
from kvdistill.losses.kv_loss import annealed_layer_weights
from kvdistill.losses.target_mean import TargetMean
from kvdistill.losses.total import Objective, auto_weight, cross_entropy, gradient_norm, reference_norm
from kvdistill.text import Batch

Step = Callable[[nn.Module, Batch, int, float], LossOutput]
"""What training asks for: (model, batch, step, progress 0..1) -> loss; losses and targets are not its business."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """How the teacher's cache becomes the student's target."""

    method: CompressorMethod = field(default_factory=StepEnd)
    control: Control = field(default_factory=NoControl)
    """A negative control in place of the sample's own target."""
    anneal_layers: float = 0.0
    """Share of the steps in which only the lowest third of the layers counts."""


@dataclass(frozen=True)
class Built:
    """A target, and the data-set mean to carry to the next batch."""

    kv: ModelKV
    mean: TargetMean | None


def build_target(teacher: ModelKV, target: Target, slots: int, batch: Batch, draw: int, mean: TargetMean | None = None) -> Built:
    """Teacher mode's cache, compressed to ``slots`` slots, or what a control puts in its place.

    ``draw`` seeds the partners of a control; ``mean`` is the data-set mean of the batches before, for the control that needs it.
    """
    compressed = target.method.compress(teacher, slots)
    if isinstance(target.control, MeanTarget):
        mean = TargetMean.over(compressed, mean)
    return Built(target.control.apply(compressed, batch.chain, draw, mean), mean)


@dataclass
class Distillation:
    """KaVa's step: both modes, the target, the losses. Carries what outlives a batch: the data-set mean and ``auto``'s weight.

    Source: KaVa, https://arxiv.org/abs/2510.02312, section 3.
    """

    target: Target
    objective: Objective
    slots: int
    geometry: Callable[[], Geometry]
    both_delimiters: bool = False
    mean: TargetMean | None = None

    def __post_init__(self) -> None:
        """Match the loss geometry to the compressor: ``full`` keeps its tokens, so the student is read at them."""
        geometry = "tokens" if isinstance(self.target.method, Full) else "slots"
        self.objective = replace(self.objective, kv=replace(self.objective.kv, geometry=geometry))

    def __call__(self, model: nn.Module, batch: Batch, step: int, progress: float) -> LossOutput:
        """Loss of one batch, with every term among the metrics."""
        two: TwoModes = model(batch=batch)
        if not (self.objective.kv_weight or self.objective.attention_weight):
            return self.objective.compare(two, None)
        built = build_target(two.teacher.kv, self.target, self.slots, batch, step, self.mean)
        target, self.mean = built.kv, built.mean
        frame = self._frame(batch) if self.objective.kv.frame == "as_cached" else None
        weights = self._layer_weights(len(target.layers), progress)
        if self.objective.kv_weight == "auto":
            self._resolve(two, target, frame)
        return self.objective.compare(two, target, frame, weights)

    def _resolve(self, two: TwoModes, target: ModelKV, frame: CachedFrame | None) -> None:
        """Replace ``auto`` by the weight of the first batch, all layers counted."""
        loss = self.objective.kv.compare(target, two.student.kv, frame).loss
        weight = auto_weight(gradient_norm(loss, two.student.kv), reference_norm(two.student.kv))
        self.objective = replace(self.objective, kv_weight=weight)

    def _layer_weights(self, num_layers: int, progress: float) -> Float[Tensor, " L"] | None:
        share = self.target.anneal_layers
        return annealed_layer_weights(progress, num_layers, share) if progress < share else None

    def _frame(self, batch: Batch) -> CachedFrame:
        question = batch.question.lengths
        return CachedFrame(
            ropes=tuple(layer.rope for layer in self.geometry().layers),
            teacher_start=question + batch.cue.lengths + int(self.both_delimiters),
            student_start=question + batch.student_cue.lengths + 1,
        )


def explicit_step(model: nn.Module, batch: Batch, step: int, progress: float) -> LossOutput:
    """Plain supervised fine-tuning of teacher mode: explicit chains of thought, or direct answers where they are empty."""
    rows = model(batch=batch, mode="teacher").rows
    loss = cross_entropy(rows, len(batch))
    return LossOutput(loss, {"ce_teacher": loss.detach()})
