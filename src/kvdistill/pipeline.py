"""Training step: from a batch through the student and its teachers to one loss."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kvdistill.data.readers import Reader
from kvdistill.fuse.weights import RouteInputs
from kvdistill.kv import KVPair, LossOutput, TeacherCache, TwoModes
from kvdistill.latent.curriculum import with_words
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.latent.starting import StartingStudent
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
from kvdistill.target.bridge import Bridge, with_teacher_name
from kvdistill.teacher.base import Teacher
from kvdistill.text import Batch
from kvdistill.training_step import StepSettings, TrainingStep

OnStage = Callable[[str, object], None]
"""Callback with the name and the result of each stage of a step."""


class Distillation(TrainingStep):
    """KaVa's distillation step: both modes of the student, the teachers' caches, targets, losses.

    Teachers are kept in a tuple, outside the module tree: they are not trained, saved or moved.

    Args:
        student: The latent student; trained.
        teachers: The sources of target caches; one or many.
        bridge: Makes pairs of target and student cache; its parameters are trained.
        objective: The losses and their weights.
        settings: Layer annealing and the all-reduce; None takes the defaults.

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
        # nn.Module registers no module inside a tuple.
        self.teachers = tuple(teachers)
        self.bridge = bridge
        method = next(iter(bridge.builders.values())).method
        self.objective = objective.on_axis_of(method.kind, method.keeps_tokens)
        embedding: Tensor = student.backbone.get_input_embeddings().weight  # pyright: ignore
        self.learned = nn.ModuleDict(self.objective.modules(embedding))
        """Modules of losses that learn, by kind; dropped after training."""
        self.settings = settings or StepSettings()
        self.auto_weight: float | None = None
        """The weight found for ``kv_weight = "auto"`` on the first batches with targets; None before."""
        self.on_stage: OnStage | None = None
        self.start: StartingStudent | None = None
        """Gives the questions' vectors; None takes them from the student as it is."""

    @property
    def readers(self) -> dict[str, Reader]:
        """By short name, the teachers that read other tokens or texts than the student's teacher mode."""
        return {teacher.name: teacher.reader for teacher in self.teachers if teacher.reader is not None}

    def forward(self, batch: Batch, step: int, progress: float) -> LossOutput:
        """The loss of one batch.

        Args:
            batch: B samples, padded.
            step: Optimizer steps done; seed of a control's partners.
            progress: Share of the run that is done, 0 to 1.

        Returns:
            A scalar, with every term of the objective and the compressors' statistics as metrics.
        """
        if not self.prepared:
            self.prepare([batch])
        # Step 1: both modes of the student, in one packed call.
        outputs = self._outputs(batch, step, progress)
        if "target" not in self.objective.needs:
            return self._loss(LossInputs(outputs, read=batch.teacher_mode, modules=dict(self.learned)), {})
        # Step 2: one cache of N tokens per teacher; in self-distillation, teacher mode's.
        if self.training:
            self.bridge.observe(outputs.question)
        read, caches = self.merged(batch, outputs, step=step)
        weights = _layer_weights(len(outputs.student.kv.layers), progress, self.settings.anneal_layers)
        # Step 3: compressed targets, each with the student's M slots in the same geometry.
        pairs = self.bridge(caches, outputs.student.kv, batch.cot_id, step, weights)
        self._stage("targets", pairs)
        inputs = LossInputs(outputs, pairs, frame_of(self, batch), batch.teacher_mode, dict(self.learned))
        return _with_terms(self._loss(inputs, self.bridge.diagnostics(caches, read)), self.bridge, caches)

    def merged(
        self,
        batch: Batch,
        outputs: TwoModes,
        teachers: Sequence[Teacher] | None = None,
        bridge: Bridge | None = None,
        step: int = 0,
    ) -> tuple[tuple[TeacherCache, ...], tuple[TeacherCache, ...]]:
        """The teachers' caches, and those that targets are built from.

        Args:
            batch: B samples, padded.
            outputs: The student's outputs on it, from ``outputs_of`` or a training step.
            teachers: Some of the teachers; None reads all.
            bridge: The bridge to use; None takes this step's.
            step: Training step, for a fusion that draws.

        Returns:
            What the teachers have read, and the result of the bridge's ``merge``.
        """
        bridge = bridge or self.bridge
        read = tuple(teacher.cache(batch, outputs) for teacher in teachers or self.teachers)
        self._stage("teachers", read)
        route = RouteInputs(outputs.question, batch.competence, batch.sample_ids, step)
        caches = bridge.merge(read, batch.alignments, outputs.teacher.kv, route)
        if bridge.fuses:
            self._stage("fused", caches)
        return read, caches

    def outputs_of(self, batch: Batch, **options: Any) -> TwoModes:
        """Both modes of the student, with the question's vector where the fusion reads it.

        Args:
            batch: B samples, padded.
            options: As in ``two_modes``.

        Returns:
            The outputs of the student.
        """
        if self.start is None:
            return self.student(batch=batch, question_read=self.bridge.question_read, **options)
        return replace(self.student(batch=batch, **options), question=self.start.vectors(batch))

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the answer after all passes, and KV loss over all layers without a control."""
        outputs = self.outputs_of(batch)
        with torch.autocast(batch.cot_id.device.type, enabled=False):
            found = {"ce": cross_entropy(outputs.student.rows, len(batch))}
        if not self.objective.kv_weight:
            return found
        bridge = self.bridge.without_control()
        _, caches = self.merged(batch, outputs, bridge=bridge)
        routed = bridge.routing_terms(caches)
        if routed is not None:
            found |= routed.metrics
        pairs = bridge(caches, outputs.student.kv, batch.cot_id, 0)
        with torch.autocast(batch.cot_id.device.type, enabled=False):
            return found | {"kv": self.objective.kv(LossInputs(outputs, pairs, frame_of(self, batch))).loss}

    def _outputs(self, batch: Batch, step: int = 0, progress: float = 0.0) -> TwoModes:
        needs, curriculum, passes = self.objective.needs, self.settings.curriculum, None
        if curriculum is not None:
            passes, replaced = curriculum.stage(progress, self.student.config.passes, step)
            batch = with_words(batch, replaced)
        attention, slots = "attention" in needs, "slots" in needs
        outputs = self.outputs_of(batch, measure_attention=attention, read_slots=slots, passes=passes)
        self._stage("student", outputs)
        return outputs

    def _loss(self, inputs: LossInputs, metrics: dict[str, Tensor]) -> LossOutput:
        objective = self.objective
        if objective.kv_weight == "auto":
            weight = self.auto_weight or 0.0
            objective = replace(objective, kv_weight=weight)
            metrics = metrics | {"kv_weight": torch.tensor(weight)}
        # Losses sum over thousands of elements: float32, also in a run with autocast.
        with torch.autocast(inputs.outputs.student.hidden.device.type, enabled=False):
            output = objective(inputs)
        return LossOutput(output.loss, output.metrics | metrics)

    def _stage(self, name: str, result: object) -> None:
        if self.on_stage is not None:
            self.on_stage(name, result)

    @property
    def prepared(self) -> bool:
        """Whether ``kv_weight`` is a number, or ``auto`` has been resolved."""
        return self.objective.kv_weight != "auto" or self.auto_weight is not None

    def prepare(self, batches: Sequence[Batch]) -> None:
        """Find the weight for ``kv_weight = "auto"`` once, from the first batches of all processes.

        All layers and all samples with a target count, however they are distributed over processes and
        micro-batches. Running means and random number generators are restored.

        Args:
            batches: All batches of the first optimizer step on this process.
        """
        if self.prepared:
            return
        # The batches are processed again in the step itself and must not count twice in the running means.
        before = self.bridge.means()
        device = batches[0].cot_id.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            counts, references = zip(*(self._kv_gradient_norm(batch) for batch in batches), strict=True)
        self.bridge.set_means(before)
        # Sums, not means, go through the all-reduce: processes may hold different numbers of samples.
        samples, squares = self.settings.all_reduce_sum(torch.stack(counts).sum(0)).tolist()
        if samples == 0:
            return  # no sample has a target yet: the KV loss is 0 until one has
        self.auto_weight = auto_weight(math.sqrt(squares) / samples, references[0] / math.sqrt(samples))

    def _kv_gradient_norm(self, batch: Batch) -> tuple[Float[Tensor, "2"], float]:
        """Count of samples with a target, the sum of squared gradient norms, reference norm of one sample.

        The loss is the mean over the samples, which are independent: B times its gradient norm, squared, is
        the sum of the samples' squared norms. A sample without a target has none and does not count.
        """
        outputs = self._outputs(batch)
        _, caches = self.merged(batch, outputs)
        own, size = outputs.student.kv, len(batch)
        weights = _layer_weights(len(own.layers), 1.0, self.settings.anneal_layers)
        pairs: tuple[KVPair, ...] = self.bridge(caches, own, batch.cot_id, 0, weights)
        with torch.autocast(batch.cot_id.device.type, enabled=False):
            loss = self.objective.kv(LossInputs(outputs, pairs, frame_of(self, batch))).loss
            squares = (size * gradient_norm(loss, own)) ** 2
        # (B,) for each pair: whether any slot of any layer counts.
        filled = [layer.mask.flatten(1).any(1) for pair in pairs for layer in pair.target.layers]
        taught = int(torch.stack(filled).any(0).sum())
        counts = torch.tensor([taught, squares], dtype=torch.float64, device=batch.cot_id.device)
        return counts, reference_norm(own) * math.sqrt(size)

    def state(self) -> dict[str, Tensor]:
        """State for a checkpoint, without the student's.

        Returns:
            Tensors by name: ``weight`` of ``auto``, the weights of losses that learn, the bridge's state.
        """
        weight = self.auto_weight
        found = {} if weight is None else {"weight": torch.tensor(weight, dtype=torch.float64)}
        learned = {f"learned/{name}": value for name, value in self.learned.state_dict().items()}
        return found | learned | self.bridge.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from a checkpoint.

        Args:
            state: The result of ``state``.
        """
        self.auto_weight = float(state["weight"]) if "weight" in state else None
        learned = {name: state[f"learned/{name}"] for name in self.learned.state_dict()}
        self.learned.load_state_dict(learned)
        self.bridge.load_state(with_teacher_name(state, self.teachers[0].name))


def _with_terms(output: LossOutput, bridge: Bridge, caches: Sequence[TeacherCache]) -> LossOutput:
    """A loss with the terms of trained adapters and of the teachers' weights (``caches`` are merged ones)."""
    loss, metrics = output.loss, output.metrics
    terms = [cache.regularizer for cache in caches if cache.regularizer is not None]
    if terms:
        adapter = torch.stack(terms).sum()
        loss, metrics = loss + adapter, metrics | {"adapter": adapter.detach()}
    if (routed := bridge.routing_terms(caches)) is not None:
        loss, metrics = loss + routed.loss, metrics | routed.metrics
    return LossOutput(loss, metrics)


def frame_of(step: Distillation, batch: Batch) -> CachedFrame | None:
    """Start positions of target and student in their caches, for keys compared as cached.

    Args:
        step: The step, with its losses.
        batch: B samples, padded.

    Returns:
        Rotations per layer and (B,) absolute positions of the target's token 0 and the student's slot 0;
        None where the KV loss compares un-rotated keys.
    """
    if step.objective.kv.frame != "as_cached":
        return None
    question = batch.teacher_mode.question.lengths  # both modes read the same
    both = int(step.student.config.delimiters == "both")
    return CachedFrame(
        ropes=tuple(layer.rope for layer in step.student.geometry().layers),
        teacher_start=question + batch.teacher_mode.cue.lengths + both,
        student_start=question + batch.student_mode.cue.lengths + 1,
    )


def _layer_weights(num_layers: int, progress: float, share: float) -> Float[Tensor, " L"] | None:
    return annealed_layer_weights(progress, num_layers, share) if progress < share else None
