"""Projectors of a run's teachers, fitted before the first step (``bridge.projector = "procrustes"``)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from kvdistill.align.calibration import STATES, Calibration
from kvdistill.align.layer_map import LayerMap, LayerPair
from kvdistill.align.procrustes import fit_procrustes
from kvdistill.align.projector import Projector
from kvdistill.capture.attention import evaluating
from kvdistill.console.wording import short_number
from kvdistill.data.collate import collate
from kvdistill.data.encode import pad_id_of
from kvdistill.kv import Geometry
from kvdistill.pipeline import Distillation
from kvdistill.records.calibration import AdapterMap, CalibrationRecord, TeacherCalibration
from kvdistill.run.calibration import BATCH, at_student_tokens
from kvdistill.target.lift import LiftBridge
from kvdistill.teacher.base import Teacher
from kvdistill.text import Encoded
from kvdistill.training.ranks import Ranks


@dataclass
class _Seen:
    """What has been gathered of one teacher: the student's cache as input, the teacher's as target."""

    projector: Projector
    calibration: Calibration
    memory: int
    tokens: int = 0
    covered: int = 0
    seconds: float = 0.0


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
            for start in range(0, len(mine), BATCH):
                self._add(mine[start : start + BATCH], seen)
            teachers = [self._fit(teacher, seen[teacher.name]) for teacher in self.step.teachers]
        return CalibrationRecord(samples=len(samples), teachers=teachers)

    def _new(self, teacher: Teacher) -> _Seen:
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
        return _Seen(projector, Calibration(*geometries, self.step.student.device), memory)

    def _add(self, samples: Sequence[Encoded], seen: dict[str, _Seen]) -> None:
        tokenizer = self.step.student.tokenizer
        assert tokenizer is not None
        batch = collate(samples, pad_id_of(tokenizer), readers=self.step.readers)
        batch = batch.to(self.step.student.device)
        outputs = self.step.student(batch=batch)
        for teacher in self.step.teachers:
            each, began = seen[teacher.name], time.monotonic()
            aligned = at_student_tokens(teacher, batch, outputs)
            each.seconds += time.monotonic() - began
            each.calibration.add(outputs.teacher.kv, each.projector.select(aligned), batch.sample_ids)
            each.tokens += int(batch.teacher_mode.cot.mask.sum())
            each.covered += int(aligned.layers[0].mask[:, 0].sum())

    def _fit(self, teacher: Teacher, seen: _Seen) -> TeacherCalibration:
        seen.calibration.all_reduce(self.ranks.sum)
        tokens = {str(part): count for part, count in seen.calibration.tokens().items()}
        if min(tokens.values()) < 2:
            raise ValueError(
                f"teachers.{teacher.name}: too few training samples have a chain of thought to fit its "
                "projector on. Give more samples, or set bridge.projector to trained."
            )
        seen.projector.fix()
        device = self.step.student.device
        counts = torch.tensor([seen.tokens, seen.covered], dtype=torch.float64, device=device)
        total, covered = self.ranks.sum(counts).tolist()
        pairs = zip(seen.projector.student_ids, seen.projector.teacher_ids, strict=True)
        layers = "; ".join(f"{ours} -> {theirs}" for ours, theirs in pairs)
        return TeacherCalibration(
            teacher=teacher.name,
            source=getattr(teacher, "source", "the student's own teacher mode"),
            weight=self.bridge.shares[teacher.name],
            steps=[f"layers of the student: {layers}", "heads: an orthogonal map with a scale, fixed"],
            covered=covered / max(total, 1),
            tokens=tokens,
            maps=self._maps(seen),
            memory=seen.memory,
            seconds=seen.seconds,
        )

    def _maps(self, seen: _Seen) -> list[AdapterMap]:
        """Fit every map in place; the R² of each on held-out samples."""
        found = []
        for index, moments in enumerate(seen.calibration.moments):
            for name in STATES:
                linear = getattr(seen.projector, name)[index]
                assert isinstance(linear, nn.Linear)
                weight, bias = fit_procrustes(moments[name]["fit"])
                linear.weight.copy_(weight)
                linear.bias.copy_(bias)
                report = moments[name]["report"]
                # A constant has no variance to explain.
                variance = report.variance().sum().clamp_min(torch.finfo(torch.float64).tiny)
                r2 = 1 - float(report.error(weight, bias) / variance)
                layer, theirs = seen.projector.student_ids[index], seen.projector.teacher_ids[index]
                found.append(AdapterMap(layer=layer, teacher_layers=[theirs], states=name, r2=r2))
        return found
