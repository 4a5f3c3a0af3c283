"""Settings of the bridges: where teachers and student meet."""

from dataclasses import dataclass, field
from typing import Literal

from kvdistill.align.time_align import NearestSlot, SlotMatch


@dataclass(frozen=True, kw_only=True)
class Same:
    """Targets in the student's own geometry: self-distillation.

    Source: KaVa, https://arxiv.org/abs/2510.02312, section 3.
    """

    kind: Literal["same"] = "same"


@dataclass(frozen=True, kw_only=True)
class Lift:
    """Targets in each teacher's geometry, to which a projector maps the student's cache.

    The projectors are dropped after training.

    Source: ours; a regressor onto a wider teacher, dropped later: https://arxiv.org/abs/1412.6550.
    Differs: fitted before training by default. One that is trained along is fitted to slots that the
    student's own layers cannot read yet.
    """

    kind: Literal["lift"] = "lift"
    projector: Literal["procrustes", "trained"] = "procrustes"
    """``procrustes``: fitted to both caches on calibration text before the first step, then fixed.
    ``trained``: along with the student.
    """


@dataclass(frozen=True, kw_only=True)
class TaskCalibration:
    """Adapters trained by the answer's cross-entropy before the first step; see ``Lower``."""

    steps: int = 50
    """Most optimizer steps; it ends earlier where held-out answers do not become likelier."""
    learning_rate: float = 0.01
    """Of Adam, relative to the root mean square of each tensor of the adapters at its start."""
    batch_size: int = 32
    """Calibration samples per step, over all processes."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(
                f"bridge.task: steps is {self.steps} and batch_size {self.batch_size}: choose 1 or more."
            )
        if self.learning_rate <= 0:
            raise ValueError(f"bridge.task.learning_rate is {self.learning_rate:g}: choose a rate above 0.")


@dataclass(frozen=True, kw_only=True)
class Lower:
    """Teachers' caches aligned with the student's tokens, layers, heads and widths, and fused to one target.

    The adapters are fitted before training and dropped afterwards.

    Source: ours; linear maps between the caches of models: https://arxiv.org/abs/2601.06123.
    """

    kind: Literal["lower"] = "lower"
    adapters: str | None = None
    """Folder that ``kvdistill align fit`` wrote; None fits the adapters before the first step."""
    order: Literal["align_first", "compress_first"] | None = None
    """``align_first``: all read one text, whose tokens are aligned; slots are chosen on the fused cache.
    ``compress_first``: texts may differ; each cache is compressed by itself, and slots are matched. Default:
    ``compress_first`` where a teacher reads another text than the student.
    """
    match: SlotMatch = field(default_factory=NearestSlot)
    """How the slots of texts that differ are matched (``compress_first``)."""
    calibration_target: Literal["student_cache", "task"] = "student_cache"
    """``student_cache``: ridge regression onto the student's own cache. ``task``: the same as a start, then
    trained by the cross-entropy of the right answer behind the fused and compressed target, with the student
    frozen.
    """
    task: TaskCalibration = TaskCalibration()
    """How adapters are trained where ``calibration_target`` is ``task``."""

    def check(self, method: str, keeps_tokens: bool, fitted: bool) -> None:
        """Refuse a task calibration that has no slots to fill, or no adapter to train.

        Args:
            method: The compressor's kind.
            keeps_tokens: Whether the compressor keeps more tokens than there are slots.
            fitted: Whether a teacher has an adapter that ridge regression fits.

        Raises:
            ValueError: naming the option to change.
        """
        if self.calibration_target != "task":
            return
        if keeps_tokens:
            raise ValueError(
                f"bridge.calibration_target task reads the target in the place of the student's slots, and "
                f"target.method.kind {method} keeps all tokens: choose another method, or set "
                "bridge.calibration_target to student_cache"
            )
        if not fitted:
            raise ValueError(
                "bridge.calibration_target task trains adapters from ridge regression on, and no teacher has "
                "one: set teachers.NAME.adapter.kind to ridge, or bridge.calibration_target to student_cache"
            )


BridgeMethod = Same | Lift | Lower
"""Every bridge, told apart by ``kind``."""
