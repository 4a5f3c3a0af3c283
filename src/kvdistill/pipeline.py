"""A training step on one page: from a batch, through the student and its teachers, to one loss."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kvdistill.kv import KVPair, LossOutput, TwoModes
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.losses import (
    CachedFrame,
    LossInputs,
    Objective,
    annealed_layer_weights,
    auto_weight,
    cross_entropy,
    gradient_norm,
    reference_norm,
)
from kvdistill.target.bridge import Bridge
from kvdistill.target.build import AllReduceSum, alone
from kvdistill.teacher.base import Teacher
from kvdistill.text import Batch

FROM_STUDENT = (
    *(
        "config",
        "gradient_checkpointing_enable",
        "gradient_checkpointing_disable",
        "is_gradient_checkpointing",
    ),
    *("enable_input_require_grads", "_no_split_modules", "hf_device_map"),
)
"""What transformers' Trainer asks of a model, and the student answers."""
OnStage = Callable[[str, object], None]
"""Is told the name of each stage of a step and what came of it."""


class TrainingStep(nn.Module):
    """What Trainer trains: the student with all that learns beside it. ``forward`` is a whole step's loss."""

    accepts_loss_kwargs = False

    def __init__(self, student: LatentReasoner) -> None:
        super().__init__()
        self.student = student

    def __getattr__(self, name: str) -> Any:
        return getattr(self.student, name) if name in FROM_STUDENT else super().__getattr__(name)

    def prepare(self, batches: Sequence[Batch]) -> None:
        """Look at the first optimizer step's batches, before the first of them counts."""

    def state(self) -> dict[str, Tensor]:
        """What belongs into a checkpoint beside the student, by name."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what ``state`` gave."""


class FineTuning(TrainingStep):
    """Supervised fine-tuning of teacher mode: chains of thought, or direct answers where they are empty."""

    def forward(self, batch: Batch, step: int, progress: float) -> LossOutput:
        """The cross-entropy of the labels, in nats."""
        rows = self.student(batch=batch, mode="teacher").rows
        with torch.autocast(batch.cot_id.device.type, enabled=False):
            loss = cross_entropy(rows, len(batch))
        return LossOutput(loss, {"ce_teacher": loss.detach()})


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What a distillation step needs to know beside its parts."""

    anneal_layers: float = 0.0
    """Share of the run in which only the lowest third of the layers counts in the KV loss."""
    all_reduce_sum: AllReduceSum = alone
    """The sum over all processes: what is measured over a batch is measured over all of it."""


class Distillation(TrainingStep):
    """KaVa's step: both modes of the student, the teachers' caches, targets, losses.

    Teachers are kept in a tuple, outside the module tree: they are neither trained, saved nor moved.

    Args:
        student: the latent student; trained.
        teachers: what gives caches; one or many.
        bridge: from caches to pairs of target and student cache; what learns in it is trained.
        objective: the losses and their weights.

    Source: KaVa, https://arxiv.org/abs/2510.02312, section 3.
    """

    def __init__(
        self,
        student: LatentReasoner,
        teachers: Sequence[Teacher],
        bridge: Bridge,
        objective: Objective,
        settings: StepSettings | None = None,
    ) -> None:
        super().__init__(student)
        self.teachers = tuple(teachers)
        self.bridge = bridge
        method = next(iter(bridge.builders.values())).method
        self.objective = objective.on_axis_of(method.kind, method.keeps_tokens)
        self.settings = settings or StepSettings()
        self.auto_weight: float | None = None
        """What ``kv_weight = "auto"`` came to on the first batches."""
        self.on_stage: OnStage | None = None

    def forward(self, batch: Batch, step: int, progress: float) -> LossOutput:
        """The loss of one batch, with every term among the metrics.

        Args:
            batch: B samples, padded.
            step: optimizer steps done; seeds the partners of a control.
            progress: share of the run that is done, 0 to 1.
        """
        if self.objective.kv_weight == "auto" and self.auto_weight is None:
            self.prepare([batch])
        outputs = self._outputs(batch)
        if "target" not in self.objective.needs:
            return self._loss(LossInputs(outputs), {})
        caches = [teacher.cache(batch, outputs) for teacher in self.teachers]
        self._stage("teachers", caches)
        weights = self._layer_weights(len(outputs.student.kv.layers), progress)
        pairs = self.bridge(caches, outputs.student.kv, batch.cot_id, step, weights)
        self._stage("targets", pairs)
        return self._loss(LossInputs(outputs, pairs, self.frame(batch)), self.bridge.diagnostics(caches))

    def _outputs(self, batch: Batch) -> TwoModes:
        outputs = self.student(batch=batch, measure_attention="attention" in self.objective.needs)
        self._stage("student", outputs)
        return outputs

    def _loss(self, inputs: LossInputs, metrics: dict[str, Tensor]) -> LossOutput:
        objective = self.objective
        if objective.kv_weight == "auto":
            assert self.auto_weight is not None
            objective = replace(objective, kv_weight=self.auto_weight)
            metrics = metrics | {"kv_weight": torch.tensor(self.auto_weight)}
        with torch.autocast(inputs.outputs.student.hidden.device.type, enabled=False):
            output = objective(inputs)
        return LossOutput(output.loss, output.metrics | metrics)

    def _stage(self, name: str, result: object) -> None:
        if self.on_stage is not None:
            self.on_stage(name, result)

    def _layer_weights(self, num_layers: int, progress: float) -> Float[Tensor, " L"] | None:
        share = self.settings.anneal_layers
        return annealed_layer_weights(progress, num_layers, share) if progress < share else None

    def frame(self, batch: Batch) -> CachedFrame | None:
        """Position of the target's token 0 and the student's slot 0 in their caches, where keys are compared
        as cached.
        """
        if self.objective.kv.frame != "as_cached":
            return None
        question = batch.question.lengths
        both = int(self.student.config.delimiters == "both")
        return CachedFrame(
            ropes=tuple(layer.rope for layer in self.student.geometry().layers),
            teacher_start=question + batch.cue.lengths + both,
            student_start=question + batch.student_cue.lengths + 1,
        )

    def prepare(self, batches: Sequence[Batch]) -> None:
        """Find the weight that ``auto`` is, once: from the first batches of all processes together, with all
        layers counted.

        It is the same however the samples are dealt out to processes and small batches. Nothing else
        changes, the state of the random numbers included.
        """
        if self.objective.kv_weight != "auto" or self.auto_weight is not None:
            return
        before = self.bridge.means()
        device = batches[0].cot_id.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            counts, references = zip(*(self._kv_gradient_norm(batch) for batch in batches), strict=True)
        self.bridge.set_means(before)
        samples, squares = self.settings.all_reduce_sum(torch.stack(counts).sum(0)).tolist()
        self.auto_weight = auto_weight(math.sqrt(squares) / samples, references[0] / math.sqrt(samples))

    def _kv_gradient_norm(self, batch: Batch) -> tuple[Float[Tensor, "2"], float]:
        """How many samples the batch has and the sum of their squared gradient norms, and the reference norm
        of one sample.

        The gradient of a batch is that of its mean; samples are independent, so their squares add up.
        """
        outputs = self._outputs(batch)
        caches = [teacher.cache(batch, outputs) for teacher in self.teachers]
        own, size = outputs.student.kv, len(batch)
        weights = self._layer_weights(len(own.layers), progress=1.0)
        pairs: tuple[KVPair, ...] = self.bridge(caches, own, batch.cot_id, 0, weights)
        with torch.autocast(batch.cot_id.device.type, enabled=False):
            loss = self.objective.kv(LossInputs(outputs, pairs, self.frame(batch))).loss
            squares = (size * gradient_norm(loss, own)) ** 2
        counts = torch.tensor([size, squares], dtype=torch.float64, device=batch.cot_id.device)
        return counts, reference_norm(own) * math.sqrt(size)

    def state(self) -> dict[str, Tensor]:
        """``auto``'s weight, and what the bridge carries."""
        weight = self.auto_weight
        found = {} if weight is None else {"weight": torch.tensor(weight, dtype=torch.float64)}
        return found | self.bridge.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what ``state`` gave."""
        self.auto_weight = float(state["weight"]) if "weight" in state else None
        self.bridge.load_state(_with_teacher(state, self.teachers[0].name))


def _with_teacher(state: Mapping[str, Tensor], teacher: str) -> dict[str, Tensor]:
    """Names of checkpoints from when there was one teacher, which had none."""
    old = {
        f"{teacher}/{name}": value
        for name, value in state.items()
        if name.startswith(("mean/", "projector/"))
    }
    return {**state, **old}
