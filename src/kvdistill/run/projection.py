"""Projectors of a run's teachers, fitted before the first step (``bridge.projector = "procrustes"``)."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from kvdistill.align.calibration import STATES, Calibration
from kvdistill.align.layer_map import LayerMap, LayerPair
from kvdistill.align.procrustes import fit_procrustes
from kvdistill.align.projector import Projector
from kvdistill.capture.attention import evaluating
from kvdistill.console.wording import short_number
from kvdistill.kv import Geometry
from kvdistill.pipeline import Distillation
from kvdistill.records.calibration import AdapterMap, CalibrationRecord, TeacherCalibration
from kvdistill.run.gathering import Gathered, read_batches
from kvdistill.target.lift import LiftBridge
from kvdistill.teacher.base import Teacher
from kvdistill.text import Encoded
from kvdistill.training.ranks import Ranks


class ProjectorFit:
    """Fits and fixes the projectors of a ``LiftBridge``, with the student at its starting weights.

    Args:
        step: The training step; its bridge is a ``LiftBridge``.
        ranks: The processes of the run; each reads its share of the samples.
        say: Prints a line.
    """

    def __init__(self, step: Distillation, ranks: Ranks, say: Callable[[str], None]) -> None:
        assert isinstance(step.bridge, LiftBridge)
        self.step, self.bridge, self.ranks, self.say = step, step.bridge, ranks, say

    def run(self, samples: Sequence[Encoded]) -> CalibrationRecord:
        """Fit every projector.

        Args:
            samples: Training samples, from ``chosen_samples``; the same in every process.

        Returns:
            The report, without utilities: targets are in the teachers' geometry.

        Raises:
            ValueError: if there is no text to fit on.
        """
        mine = samples[self.ranks.rank :: self.ranks.size]
        seen = {teacher.name: self._new(teacher) for teacher in self.step.teachers}
        with evaluating(self.step), torch.no_grad():
            for batch, outputs in read_batches(self.step, mine):
                for teacher in self.step.teachers:
                    each, projector = seen[teacher.name], self.bridge.projector(teacher.name)
                    theirs = projector.select(each.read(teacher, batch, outputs))
                    each.calibration.add(outputs.teacher.kv, theirs, batch.sample_ids)
            teachers = [self._fit(teacher, seen[teacher.name]) for teacher in self.step.teachers]
        return CalibrationRecord(samples=len(samples), teachers=teachers)

    def _new(self, teacher: Teacher) -> Gathered:
        projector, theirs = self.bridge.projector(teacher.name), teacher.geometry()
        # One map per pair, from one student layer to one teacher layer.
        targets = Geometry(
            tuple(theirs.layers[pair.teacher] for pair in projector.pairs), projector.teacher_ids
        )
        sources = LayerMap(
            tuple(LayerPair(index, pair.student, 1.0) for index, pair in enumerate(projector.pairs))
        )
        geometries = targets, self.step.student.geometry(), sources
        memory = Calibration.bytes_needed(*geometries)
        self.say(f"teachers.{teacher.name}: the projector is fitted, {short_number(memory / 2**20)} MiB")
        return Gathered(Calibration(*geometries, self.step.student.device))

    def _fit(self, teacher: Teacher, seen: Gathered) -> TeacherCalibration:
        seen.calibration.all_reduce(self.ranks.sum)
        if min(seen.calibration.tokens().values()) < 2:
            raise ValueError(
                f"teachers.{teacher.name}: too few training samples have a chain of thought to fit its "
                "projector on. Give more samples, or set bridge.projector to trained."
            )
        projector = self.bridge.projector(teacher.name)
        projector.fix()
        pairs = zip(projector.student_ids, projector.teacher_ids, strict=True)
        layers = "; ".join(f"{ours} -> {theirs}" for ours, theirs in pairs)
        steps = [f"layers of the student: {layers}", "heads: an orthogonal map with a scale, fixed"]
        maps = self._maps(projector, seen.calibration)
        return seen.record(teacher, self.bridge.shares[teacher.name], steps, maps, self.ranks)

    def _maps(self, projector: Projector, calibration: Calibration) -> list[AdapterMap]:
        """Fit every map in place; the R² of each on held-out samples."""
        found = []
        for index, moments in enumerate(calibration.moments):
            for name in STATES:
                linear = getattr(projector, name)[index]
                assert isinstance(linear, nn.Linear)
                weight, bias = fit_procrustes(moments[name]["fit"])
                linear.weight.copy_(weight)
                linear.bias.copy_(bias)
                report = moments[name]["report"]
                # A constant has no variance to explain.
                variance = report.variance().sum().clamp_min(torch.finfo(torch.float64).tiny)
                r2 = 1 - float(report.error(weight, bias) / variance)
                layer, theirs = projector.student_ids[index], projector.teacher_ids[index]
                found.append(AdapterMap(layer=layer, teacher_layers=[theirs], states=name, r2=r2))
        return found
