"""Build the module that Trainer trains: student, teachers, the bridge between them and the losses."""

from collections.abc import Callable, Mapping

from kvdistill.align.aligner import Aligner
from kvdistill.align.head_dim_adapter import Adapter
from kvdistill.align.layer_map import Ratio
from kvdistill.align.projector import Projector
from kvdistill.config import OwnTeacher, RunConfig
from kvdistill.config.readings import match_of
from kvdistill.fuse.methods import FusionShape
from kvdistill.fuse.weights import TeacherWeights
from kvdistill.latent.question import question_layer
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.pipeline import Distillation, StepSettings
from kvdistill.run.teachers import OPEN, Opening
from kvdistill.target.bridge import Bridge, SameBridge
from kvdistill.target.build import TargetBuilder
from kvdistill.target.compress_first import CompressFirstBridge
from kvdistill.target.lift import LiftBridge
from kvdistill.target.lower import LowerBridge
from kvdistill.teacher.base import Teacher
from kvdistill.teacher.self_distillation import OWN, SelfDistillation
from kvdistill.text import QuestionRead
from kvdistill.training.ranks import Ranks
from kvdistill.training_step import FineTuning, TrainingStep


def step_model(config: RunConfig, student: LatentReasoner, ranks: Ranks | None = None) -> TrainingStep:
    """The training step of a run: ``Distillation`` for latents, ``FineTuning`` for the other tasks.

    Args:
        config: the run's configuration.
        student: the student that is trained.
        ranks: the processes of the run; None for one process.

    Returns:
        A module whose forward pass computes the loss of a batch.

    Raises:
        ValueError: if a teacher is missing, cannot be captured, or does not fit in memory.
    """
    if config.training.task != "latent":
        return FineTuning(student)
    ranks = ranks or Ranks()
    teachers = teachers_of(config, student)
    bridge = bridge_of(config, student, teachers, ranks)
    settings = StepSettings(
        anneal_layers=config.target.anneal_layers,
        curriculum=config.latent.curriculum,
        all_reduce_sum=ranks.sum,
    )
    return Distillation(student, teachers, bridge.to(student.device), config.loss, settings)


def teachers_of(config: RunConfig, student: LatentReasoner) -> tuple[Teacher, ...]:
    """The teachers whose caches are compared; self-distillation where none is configured.

    Args:
        config: the run's configuration.
        student: the student; its own geometry serves self-distillation.

    Returns:
        One teacher per configured name, or self-distillation alone.
    """
    # Without a loss on caches (E1) no separate teacher is loaded.
    if not config.reads_teachers:
        return (SelfDistillation(student.geometry),)
    # Nor is one of weight 0.
    sections = config.active_teachers or {OWN: OwnTeacher()}
    opening = Opening(config.training.seed)
    return tuple(
        OPEN[section.kind](name, section, student, config.data, opening) for name, section in sections.items()
    )


def bridge_of(
    config: RunConfig, student: LatentReasoner, teachers: tuple[Teacher, ...], ranks: Ranks
) -> Bridge:
    """The bridge that pairs the teachers' caches with the student's.

    Args:
        config: the run's configuration.
        student: the student, for the geometry of its cache.
        teachers: the teachers.
        ranks: the processes of the run; they share the running mean of a control.

    Returns:
        The bridge of ``config.bridge_method``; ``SameBridge`` where no loss compares caches.

    Raises:
        ValueError: if an adapter's method does not fit a teacher.
    """
    kind = config.bridge_method.kind
    if not config.reads_teachers:
        kind = "same"
    return BRIDGES[kind](config, student, teachers, ranks)


def _builder(config: RunConfig, ranks: Ranks) -> TargetBuilder:
    return TargetBuilder(config.target.method, config.target.control, config.latent.slots, ranks.sum)


def same_bridge(
    config: RunConfig, student: LatentReasoner, teachers: tuple[Teacher, ...], ranks: Ranks
) -> SameBridge:
    """The bridge to caches in the student's own geometry."""
    return SameBridge({teacher.name: _builder(config, ranks) for teacher in teachers})


def lift_bridge(
    config: RunConfig, student: LatentReasoner, teachers: tuple[Teacher, ...], ranks: Ranks
) -> LiftBridge:
    """The bridge with a projector from the student to each teacher."""
    # The layer map pairs each student layer with a teacher layer; the projector adapts heads and widths.
    ours, projectors = student.geometry(), {}
    for teacher in teachers:
        theirs = teacher.geometry()
        pairs = config.teacher_section(teacher.name).layers.pair(ours, theirs)
        projectors[teacher.name] = Projector(ours, theirs, pairs)
    builders = {teacher.name: _builder(config, ranks) for teacher in teachers}
    weights = {teacher.name: config.teacher_section(teacher.name).weight for teacher in teachers}
    fusion, read = _fusion(config, student, weights)
    bridge = LiftBridge(builders, projectors, weights, fusion)
    bridge.question_read = read
    return bridge


def lower_bridge(
    config: RunConfig, student: LatentReasoner, teachers: tuple[Teacher, ...], ranks: Ranks
) -> LowerBridge:
    """The bridge that aligns and fuses the teachers' caches; its adapters are not fitted yet."""
    ours, aligners, weights = student.geometry(), {}, {}
    for teacher in teachers:
        section = config.teacher_section(teacher.name)
        selector = section.layers
        if selector.needs_similarity:
            # Measured at calibration; until then the layers are paired by depth.
            selector = Ratio()
        theirs = teacher.geometry()
        try:
            adapter = Adapter(ours, theirs, selector.pair(ours, theirs), section.adapter)
        except ValueError as error:
            raise ValueError(f"teachers.{teacher.name}: {error}") from error
        aligners[teacher.name] = Aligner(adapter)
        weights[teacher.name] = section.weight
    fusion, read = _fusion(config, student, weights)
    builder = _builder(config, ranks)
    if config.lower_order == "compress_first":
        bridge = CompressFirstBridge(builder, aligners, weights, ours, fusion, match=match_of(config))
    else:
        bridge = LowerBridge(builder, aligners, weights, ours, fusion)
    bridge.question_read = read
    return bridge


def _fusion(
    config: RunConfig, student: LatentReasoner, teachers: Mapping[str, float]
) -> tuple[TeacherWeights | None, QuestionRead | None]:
    """Weights that depend on the sample, and the keys that they read; None where there are none.

    ``teachers`` has the weight of each section.
    """
    geometry = student.geometry()
    layer = question_layer(geometry, config.fusion.layer)
    routed = geometry.layer(layer)
    shape = FusionShape(
        tuple(teachers), tuple(teachers.values()), routed.heads * routed.key_width, len(geometry.layers)
    )
    fusion = config.fusion.module(shape)
    if fusion is None or not fusion.reads_question:
        return fusion, None
    return fusion, QuestionRead(layer, fusion.pool)


MakeBridge = Callable[[RunConfig, LatentReasoner, tuple[Teacher, ...], Ranks], Bridge]
BRIDGES: dict[str, MakeBridge] = {"same": same_bridge, "lift": lift_bridge, "lower": lower_bridge}
"""Kind of a bridge -> what builds it."""
