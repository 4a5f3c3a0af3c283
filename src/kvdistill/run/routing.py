"""Routing of a run: the teachers' competence for every batch, and what a fusion measures before training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kvdistill.capture.attention import evaluating
from kvdistill.config import RunConfig
from kvdistill.config.fusion import require_table
from kvdistill.data.keys import question_key
from kvdistill.fuse.methods import Similarity, WithoutTable
from kvdistill.fuse.query_norm import unit_scale, whitening
from kvdistill.fuse.weights import QuestionWeights, SimilarityWeights, TeacherWeights
from kvdistill.latent.question import question_vectors
from kvdistill.pipeline import Distillation
from kvdistill.records.competence import CompetenceTable, Figures
from kvdistill.run.adapters import student_of
from kvdistill.run.alignment import first_samples
from kvdistill.run.gathering import chosen_samples, chunks
from kvdistill.run.starting import keep_start, restore_start, write_start
from kvdistill.teacher.causal_lm import CausalLMTeacher
from kvdistill.teacher.router_proto import (
    PROTOTYPES,
    Prototypes,
    make_prototypes,
    read_prototypes,
    write_prototypes,
)
from kvdistill.text import Encoded, Example, QuestionRead
from kvdistill.training_step import TrainingStep


@dataclass(frozen=True)
class KnownCompetence:
    """Competence of the teachers for an example, from a table; picklable for the loader's workers."""

    table: CompetenceTable
    names: tuple[str, ...]
    temperature: float = 1.0

    def __call__(self, example: Example) -> list[float]:
        """E weights that sum to 1; 0 throughout where the table has no figures of the question."""
        key = question_key(example)
        if self.has(key):
            return self.table.target(key, self.names, self.temperature)
        return [0.0] * len(self.names)

    def has(self, key: str) -> bool:
        """Whether a teacher has a figure for the question."""
        known = self.table.figures.get(key, {})
        return any(known.get(name, Figures()) != Figures() for name in self.names)


def fusion_of(step: TrainingStep) -> TeacherWeights | None:
    """The weights of a step that depend on the sample; None where they are constants."""
    if isinstance(step, Distillation):
        return step.bridge.fusion
    return None


def set_competence(config: RunConfig, step: TrainingStep) -> None:
    """Give the step the competence of its teachers, from the table of ``fusion.competence``.

    Args:
        config: the run's configuration.
        step: the training step; its batches then hold the competence.

    Raises:
        ValueError: if the table is missing, damaged, or of other teachers.
    """
    fusion, method = fusion_of(step), config.fusion
    if fusion is None or isinstance(method, WithoutTable) or method.table is None:
        return
    require_table(method)
    table = CompetenceTable.read(Path(method.table))
    live = [teacher for teacher in step.teachers if isinstance(teacher, CausalLMTeacher)]
    try:
        table.require_teachers({teacher.name: teacher.fingerprint() for teacher in live})
        table.target("", fusion.teachers)
    except ValueError as error:
        raise ValueError(f"fusion.competence: {error}") from error
    table = table.only(method.competence_figures)
    step.competence = KnownCompetence(table, fusion.teachers, method.competence_temperature)


def report_unknown(
    step: TrainingStep, samples: Sequence[Encoded], role: str, say: Callable[[str], None]
) -> None:
    """Report the samples that the competence table lacks; refuse one that has none of them.

    Args:
        step: the training step, after ``set_competence``.
        samples: the samples of a data set.
        role: what they are for.
        say: prints a line.

    Raises:
        ValueError: if the table has no figures of any sample.
    """
    known = step.competence
    if not isinstance(known, KnownCompetence) or not samples:
        return
    lacking = sum(not known.has(question_key(sample.example)) for sample in samples)
    if lacking == len(samples):
        raise ValueError(
            f"fusion.competence: the table has no figures of any of {lacking} {role} questions, so it was "
            "made for other data. Make one for this data (kvdistill competence)."
        )
    if lacking:
        say(
            f"fusion: the competence table has no figures of {lacking} of {len(samples)} {role} questions; "
            "they do not count in route_ce"
        )


class RouteFit:
    """Measures what a fusion needs before the first step: statistics of questions, and prototypes.

    Every process reads all calibration questions, so that all have the same.

    Args:
        config: The run's configuration.
        step: The training step, with the student at its starting weights.
        samples: Calibration samples.
    """

    def __init__(self, config: RunConfig, step: Distillation, samples: Sequence[Encoded]) -> None:
        self.config, self.step, self.samples = config, step, samples

        self.prototypes: Prototypes | None = None

    def run(self) -> None:
        """Fit the fusion in place, and keep its prototypes where it has any."""
        fusion = fusion_of(self.step)
        if not isinstance(fusion, QuestionWeights):
            return
        if fusion.query_of == "start":
            keep_start(self.step)
        method = self.config.fusion
        if isinstance(method, Similarity) and method.prototype_file is not None:
            found = self._read(Path(method.prototype_file), fusion)
        else:
            queries = self._vectors()
            fusion.norm.fit(queries.to(fusion.norm.mean))
            if not isinstance(method, Similarity):
                return
            found = self._made(method, fusion, queries)
        assert isinstance(fusion, SimilarityWeights)
        fusion.norm.mean.copy_(found.mean)
        fusion.norm.std.copy_(found.std)
        fusion.set_prototypes(found.vectors, found.mass, found.whitening)
        self.prototypes = found

    def _made(self, method: Similarity, fusion: QuestionWeights, queries: Tensor) -> Prototypes:
        """New prototypes from the calibration questions whose competence is known."""
        assert self.step.competence is not None
        competence = torch.tensor([list(self.step.competence(each.example)) for each in self.samples])
        known = competence.sum(-1) > 0
        standard = fusion.norm(queries).cpu()
        mixing = whitening(standard)
        vectors, mass = make_prototypes(
            method.prototypes,
            unit_scale(standard @ mixing)[known],
            competence[known],
            method.clusters,
            self.config.training.seed,
        )
        norm = fusion.norm
        return Prototypes(vectors, mass, norm.mean.cpu().clone(), norm.std.cpu().clone(), mixing)

    def _read(self, path: Path, fusion: QuestionWeights) -> Prototypes:
        found = read_prototypes(path, student_of(self.step.student), fusion.teachers, self._read_from)
        assert isinstance(fusion, SimilarityWeights)
        wanted = fusion.prototypes.shape
        if found.vectors.shape != wanted:
            raise ValueError(
                f"{path} has prototypes of shape {tuple(found.vectors.shape)}, and fusion.prototypes with "
                f"fusion.clusters asks for {tuple(wanted)}. Set them as in the run that made the file."
            )
        return found

    @property
    def _read_from(self) -> QuestionRead:
        read = self.step.bridge.question_read
        assert read is not None
        return read

    def _vectors(self) -> Tensor:
        """The vectors of all calibration questions, (N, D), on the CPU."""
        student, found = self.step.student, []
        with evaluating(self.step), torch.no_grad():
            for some in chunks(self.samples):
                batch = self.step.collate(some).to(student.device)
                found.append(question_vectors(student, batch, self._read_from).cpu())
        return torch.cat(found)

    def write(self, folder: Path) -> None:
        """Write prototypes and the starting student into a run folder, where there are any.

        Args:
            folder: The run folder.
        """
        if self.step.start is not None:
            write_start(self.step.start, folder)
        fusion = fusion_of(self.step)
        if self.prototypes is None or fusion is None:
            return
        student = student_of(self.step.student)
        write_prototypes(folder / PROTOTYPES, self.prototypes, student, fusion.teachers, self._read_from)


def fit_routing(config: RunConfig, step: TrainingStep, data: Any, checkpoint: Path | None) -> RouteFit | None:
    """Fit a run's fusion before its first step; checkpoint and run folder hold what was fitted.

    Args:
        config: the run's configuration.
        step: the training step, after ``set_competence``.
        data: the training data set.
        checkpoint: the checkpoint to resume from; None at the start of a run.

    Returns:
        What was fitted; None where the weights are constants, or the run resumes.
    """
    fusion = fusion_of(step)
    if not isinstance(step, Distillation) or fusion is None:
        return None
    if checkpoint is not None:
        if isinstance(fusion, QuestionWeights) and fusion.query_of == "start":
            restore_start(step, checkpoint.parent)
        return None
    fit = RouteFit(config, step, chosen_samples(first_samples(data), config.training.seed))
    fit.run()
    return fit
