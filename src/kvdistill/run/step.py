"""From a configuration to what Trainer trains: student, teachers, the bridge between them, losses."""

from kvdistill.align.projector import Projector
from kvdistill.config import OwnTeacher, RunConfig
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.pipeline import Distillation, FineTuning, StepSettings, TrainingStep
from kvdistill.run.teachers import OPEN
from kvdistill.target.bridge import Bridge, LiftBridge, Same, SameBridge
from kvdistill.target.build import TargetBuilder
from kvdistill.teacher.base import Teacher
from kvdistill.teacher.self_distillation import OWN, SelfDistillation
from kvdistill.training.ranks import Ranks


def step_model(config: RunConfig, student: LatentReasoner, ranks: Ranks | None = None) -> TrainingStep:
    """What is trained: latents from teachers, or teacher mode alone.

    Raises:
        ValueError: if a teacher is not there, cannot be captured, or reads other tokens than the student.
    """
    if config.training.task != "latent":
        return FineTuning(student)
    ranks = ranks or Ranks()
    teachers = teachers_of(config, student)
    bridge = bridge_of(config, student, teachers, ranks)
    settings = StepSettings(anneal_layers=config.target.anneal_layers, all_reduce_sum=ranks.sum)
    return Distillation(student, teachers, bridge.to(student.device), config.loss, settings)


def teachers_of(config: RunConfig, student: LatentReasoner) -> tuple[Teacher, ...]:
    """The configured teachers; the student's own teacher mode where there are none, or none is read."""
    if not config.reads_teachers:
        return (SelfDistillation(student.geometry),)
    sections = config.all_teachers or {OWN: OwnTeacher()}
    return tuple(OPEN[section.kind](name, section, student) for name, section in sections.items())


def bridge_of(
    config: RunConfig, student: LatentReasoner, teachers: tuple[Teacher, ...], ranks: Ranks
) -> Bridge:
    """What pairs the teachers' caches with the student's."""
    target, slots = config.target, config.latent.slots
    builders = {
        teacher.name: TargetBuilder(target.method, target.control, slots, ranks.sum) for teacher in teachers
    }
    if isinstance(config.bridge_method, Same) or not config.reads_teachers:
        return SameBridge(builders)
    ours, projectors = student.geometry(), {}
    for teacher in teachers:
        theirs = teacher.geometry()
        pairs = config.all_teachers[teacher.name].layers.pair(ours, theirs)
        projectors[teacher.name] = Projector(ours, theirs, pairs)
    return LiftBridge(builders, projectors)
