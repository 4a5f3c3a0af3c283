"""Calibration of a run's teachers before the first step: adapters, and the utility of their targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from kvdistill.align.adapter_report import AdapterReport
from kvdistill.align.aligner import Aligner
from kvdistill.align.calibration import Calibration, part_of
from kvdistill.align.cka import LayerSimilarity
from kvdistill.align.layer_map import LayerSelector
from kvdistill.capture.attention import evaluating
from kvdistill.console.wording import counted, short_number
from kvdistill.evaluation.utility import TargetOf, controlled, own_target, target_utility
from kvdistill.kv import ModelKV
from kvdistill.pipeline import Distillation
from kvdistill.records.calibration import AdapterMap, CalibrationRecord, TaskFitRecord, TeacherCalibration
from kvdistill.records.utility import TargetUtility
from kvdistill.run.gathering import SAMPLES, Gathered, at_student_tokens, chunks, read_batches
from kvdistill.run.output_cosine import attention_cosines
from kvdistill.run.task_fit import TaskFit
from kvdistill.target.controls import NoControl, OtherSample
from kvdistill.target.lower import FUSED, LowerBridge
from kvdistill.target.methods import TaskCalibration
from kvdistill.teacher.base import Teacher
from kvdistill.text import Batch, Encoded
from kvdistill.training.ranks import Ranks


class Calibrator:
    """Fits the adapters of a ``LowerBridge`` in place, with the student at its starting weights.

    Args:
        step: The training step; its bridge is a ``LowerBridge``.
        selectors: The layer map of each teacher, by short name.
        ranks: The processes of the run; each reads its share of the samples.
        say: Prints a line.
        task: Trains the fitted adapters by the answer's cross-entropy; None leaves them as fitted.
    """

    def __init__(
        self,
        step: Distillation,
        selectors: Mapping[str, LayerSelector],
        ranks: Ranks,
        say: Callable[[str], None],
        task: TaskCalibration | None = None,
    ) -> None:
        assert isinstance(step.bridge, LowerBridge)
        self.step, self.bridge, self.task = step, step.bridge, task
        self.selectors, self.ranks, self.say = selectors, ranks, say
        self.device = step.student.device

    def run(self, samples: Sequence[Encoded]) -> CalibrationRecord:
        """Calibrate every teacher.

        Args:
            samples: Training samples, from ``chosen_samples``; the same in every process.

        Returns:
            The report; the bridge holds the fitted adapters and the scale of the loss.

        Raises:
            ValueError: if there is too little text for an adapter; names the tokens needed.
        """
        mine = samples[self.ranks.rank :: self.ranks.size]
        with evaluating(self.step), torch.no_grad():
            self._map_layers(mine)
            seen = self._gather(mine)
            teachers = [self._fit(teacher, seen[teacher.name]) for teacher in self.step.teachers]
            self._set_scale(seen)
            held_out = [sample for sample in samples if part_of(sample.sample_id) == "report"]
            task = None
            if self.task is not None:
                task = self._train(self.task, samples, held_out)
                teachers = [self._measured(each, seen[each.teacher]) for each in teachers]
            cosines = attention_cosines(self.step, map(self._same_text, chunks(held_out)))
            teachers = [replace(each, attention_cosine=cosines.get(each.teacher)) for each in teachers]
            targets = None
            if held_out and not self.bridge.builders[FUSED].method.keeps_tokens:
                found = self._targets(paired=len(held_out) > 1)
                targets = target_utility(self.step.student, held_out, found, batch_of=self._batch)
        scale = None
        if self.bridge.scale is not None:
            scale = self.bridge.scale.tolist()
        return CalibrationRecord(
            samples=len(samples), teachers=teachers, scale=scale, targets=targets, task=task
        )

    def _batch(self, samples: Sequence[Encoded]) -> Batch:
        return self.step.collate(samples).to(self.device)

    def _same_text(self, samples: Sequence[Encoded]) -> Batch:
        return self.step.collate(samples, same_text=True).to(self.device)

    def _map_layers(self, samples: Sequence[Encoded]) -> None:
        """Choose the layers of the teachers whose layer map is measured."""
        measured = [t for t in self.step.teachers if self.selectors[t.name].needs_similarity]
        if not measured:
            return
        student = self.step.student.geometry()
        found = {t.name: LayerSimilarity(student, t.geometry(), self.device) for t in measured}
        for batch, outputs in read_batches(self.step, samples):
            for teacher in measured:
                found[teacher.name].add(at_student_tokens(teacher, batch, outputs), outputs.teacher.kv)
        for teacher in measured:
            found[teacher.name].all_reduce(self.ranks.sum)
            similarity = found[teacher.name].similarity()
            layer_map = self.selectors[teacher.name].pair(student, teacher.geometry(), similarity)
            self.bridge.set_layers(teacher.name, layer_map)

    def _gather(self, samples: Sequence[Encoded]) -> dict[str, Gathered]:
        seen: dict[str, Gathered] = {}
        for teacher in self.step.teachers:
            adapter = self.bridge.aligner(teacher.name).adapter
            geometries = adapter.student, adapter.teacher, adapter.layer_map
            self.say(
                f"teachers.{teacher.name}: calibration on {SAMPLES} samples at most, "
                f"{short_number(Calibration.bytes_needed(*geometries) / 2**20)} MiB"
            )
            seen[teacher.name] = Gathered(Calibration(*geometries, self.device))
        for batch, outputs in read_batches(self.step, samples):
            for teacher in self.step.teachers:
                each = seen[teacher.name]
                aligned = each.read(teacher, batch, outputs)
                each.calibration.add(aligned, outputs.teacher.kv, batch.sample_ids)
        return seen

    def _fit(self, teacher: Teacher, seen: Gathered) -> TeacherCalibration:
        seen.calibration.all_reduce(self.ranks.sum)
        old = self.bridge.aligner(teacher.name).adapter
        try:
            adapter, report = seen.calibration.solve(old.method)
        except ValueError as error:
            raise ValueError(f"teachers.{teacher.name}: {error}") from error
        aligner = Aligner(adapter.to(self.device))
        self.bridge.aligners[teacher.name] = aligner
        weight, steps = self.bridge.weights[teacher.name], aligner.describe().splitlines()
        return seen.record(teacher, weight, steps, maps_of(report), self.ranks)

    def _set_scale(self, seen: dict[str, Gathered]) -> None:
        """Divide the loss by the student's own deviations where a target is a fitted image of its cache."""
        for name, found in seen.items():
            method = self.bridge.aligner(name).adapter.method
            if method.learns or method.penalty_grid():
                # 2 x (L,) -> (L, 2)
                self.bridge.scale = torch.stack(found.calibration.student_std(), dim=1).to(self.device)

    def _targets(self, paired: bool = True) -> dict[str, TargetOf]:
        """The targets whose utility is measured, by name; ``paired`` with another sample's target."""
        builder = self.bridge.builders[FUSED]
        fused = partial(self._target, tuple(self.step.teachers))
        own = own_target(self.step.student, builder.method)
        found: dict[str, TargetOf] = {"own cache": own, "fused": fused}
        if len(self.step.teachers) > 1:
            found |= {teacher.name: partial(self._target, (teacher,)) for teacher in self.step.teachers}
        if paired:
            found["other sample"] = controlled(fused, OtherSample())
        return found

    def _train(
        self, settings: TaskCalibration, samples: Sequence[Encoded], held_out: Sequence[Encoded]
    ) -> TaskFitRecord:
        """Train the fitted adapters; the report has the utility before and after on other samples."""
        fused = partial(self._target, tuple(self.step.teachers))
        before = self._utility(fused, held_out)
        record = TaskFit(self.step, fused, settings, self.ranks).run(samples)
        record = replace(record, before=before, after=self._utility(fused, held_out))
        self.say(described(record))
        return record

    def _utility(self, target_of: TargetOf, held_out: Sequence[Encoded]) -> TargetUtility | None:
        if not held_out:
            return None
        (found,) = target_utility(self.step.student, held_out, {"fused": target_of}, batch_of=self._batch)
        return found

    def _measured(self, record: TeacherCalibration, seen: Gathered) -> TeacherCalibration:
        """The record with the R² of the adapter as it is now."""
        found = seen.calibration.r2(self.bridge.aligner(record.teacher).adapter)
        maps = [replace(each, r2=r2) for each, r2 in zip(record.maps, found, strict=True)]
        return replace(record, maps=maps)

    def _target(self, teachers: Sequence[Teacher], batch: Batch) -> ModelKV:
        with torch.no_grad():
            outputs = self.step.outputs_of(batch)
        _, (merged,) = self.step.merged(batch, outputs, teachers)
        build = replace(self.bridge.builders[FUSED], control=NoControl(), mean=None)
        return build(merged.kv, batch.cot_id, 0, merged.covered)


def described(record: TaskFitRecord) -> str:
    """One line on adapters that were trained by the answer's cross-entropy.

    Args:
        record: What was done.

    Returns:
        Steps, and the utility of the fused target before and after where there were samples for it.
    """
    line = (
        f"teachers: adapters trained on the answers for {counted(record.steps, 'step')}, those of step "
        f"{record.kept} are kept"
    )
    if record.before is None or record.after is None:
        return line
    right = [f"{100 * each.accuracy:.0f} %" for each in (record.before, record.after)]
    nats = [f"{each.nats:.2f}" for each in (record.before, record.after)]
    return (
        f"{line}; utility of the fused target {right[0]} before and {right[1]} after, right answer "
        f"{nats[0]} and {nats[1]} nats"
    )


def maps_of(report: AdapterReport) -> list[AdapterMap]:
    """The maps of a report as records.

    Args:
        report: What an adapter explains of the student's cache.

    Returns:
        One record per map.
    """
    return [
        AdapterMap(
            layer=each.layer,
            teacher_layers=list(each.teacher_layers),
            states=each.states,
            r2=each.r2,
            penalty=each.penalty,
        )
        for each in report.maps
    ]
