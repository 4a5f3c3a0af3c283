"""What calibration reads: training samples in batches, and each teacher's cache at the student's tokens."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch

from kvdistill.align.aligner import in_student_tokens
from kvdistill.align.calibration import Calibration
from kvdistill.kv import ModelKV, TwoModes
from kvdistill.pipeline import Distillation
from kvdistill.records.calibration import AdapterMap, TeacherCalibration
from kvdistill.target.lower import covered_tokens, only_covered
from kvdistill.teacher.base import Teacher
from kvdistill.text import Batch, Encoded
from kvdistill.training.ranks import Ranks

SAMPLES = 512
"""Training samples that adapters are fitted and reported on."""
BATCH = 32
"""Samples per forward pass; does not change the result."""


@dataclass
class Gathered:
    """What has been gathered of one teacher on this process."""

    calibration: Calibration
    tokens: int = 0
    """The student's tokens."""
    covered: int = 0
    """Those of them that the teacher has read."""
    seconds: float = 0.0
    """Of the teacher's forward passes."""

    def read(self, teacher: Teacher, batch: Batch, outputs: TwoModes) -> ModelKV:
        """The teacher's cache at the student's tokens, as ``at_student_tokens``; counted and timed.

        Args:
            teacher: The teacher.
            batch: B samples.
            outputs: The student's outputs.

        Returns:
            N slots in the teacher's geometry.
        """
        began = time.monotonic()
        aligned = at_student_tokens(teacher, batch, outputs)
        self.seconds += time.monotonic() - began
        self.tokens += int(batch.teacher_mode.cot.mask.sum())
        self.covered += int(aligned.layers[0].mask[:, 0].sum())
        return aligned

    def record(
        self, teacher: Teacher, weight: float, steps: list[str], maps: list[AdapterMap], ranks: Ranks
    ) -> TeacherCalibration:
        """The record of the teacher, over all processes.

        Args:
            teacher: The teacher.
            weight: Its weight among the teachers.
            steps: What is done to its cache, one line per step.
            maps: Its maps.
            ranks: The processes of the run.

        Returns:
            The record, without the cosine of the attention output.
        """
        done = self.calibration
        counts = torch.tensor([self.tokens, self.covered], dtype=torch.float64, device=done.device)
        total, covered = ranks.sum(counts).tolist()
        return TeacherCalibration(
            teacher=teacher.name,
            source=getattr(teacher, "source", "the student's own teacher mode"),
            weight=weight,
            steps=steps,
            covered=covered / max(total, 1),
            tokens={str(part): count for part, count in done.tokens().items()},
            maps=maps,
            memory=Calibration.bytes_needed(done.student, done.teacher, done.layer_map),
            seconds=self.seconds,
        )


def chosen_samples(samples: Sequence[Encoded], seed: int) -> list[Encoded]:
    """The training samples that calibration reads: up to ``SAMPLES`` with a chain of thought.

    Args:
        samples: The training samples.
        seed: Seed of the choice.

    Returns:
        Samples in the order of the draw.
    """
    places = Random(seed).sample(range(len(samples)), len(samples))
    chosen: list[Encoded] = []
    for place in places:
        if samples[place].teacher_mode.cot.ids:
            chosen.append(samples[place])
        if len(chosen) == SAMPLES:
            break
    return chosen


def chunks(samples: Sequence[Encoded]) -> list[Sequence[Encoded]]:
    """Samples in groups of ``BATCH``.

    Args:
        samples: Any number of samples.

    Returns:
        Groups in order, the last one smaller where they do not divide.
    """
    return [samples[start : start + BATCH] for start in range(0, len(samples), BATCH)]


def read_batches(step: Distillation, samples: Sequence[Encoded]) -> Iterator[tuple[Batch, TwoModes]]:
    """The student's outputs on some samples, whose texts all teachers read too.

    Args:
        step: The training step, in evaluation mode.
        samples: Samples with chains of thought.

    Yields:
        Batches on the student's device, each with both modes' outputs.
    """
    for some in chunks(samples):
        batch = step.collate(some, same_text=True).to(step.student.device)
        yield batch, step.student(batch=batch)


def at_student_tokens(teacher: Teacher, batch: Batch, outputs: TwoModes) -> ModelKV:
    """A teacher's cache at the student's tokens.

    Args:
        teacher: The teacher.
        batch: B samples.
        outputs: The student's outputs, which are the cache of self-distillation.

    Returns:
        N slots in the teacher's geometry; tokens that it does not cover are masked.
    """
    cache = teacher.cache(batch, outputs)
    alignment = batch.alignments.get(teacher.name)
    return only_covered(in_student_tokens(cache.kv, alignment), covered_tokens(cache, alignment))
