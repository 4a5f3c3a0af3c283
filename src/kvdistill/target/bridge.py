"""Where teachers and student meet: targets, each with the student's view of itself.

``SameBridge`` serves self-distillation, where both caches have one geometry. ``LiftBridge`` trains a
projector for each teacher, which brings the student's cache to the teacher's heads and widths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from kvdistill.align.projector import Projector
from kvdistill.kv import KVPair, ModelKV, TeacherCache
from kvdistill.target.build import TargetBuilder
from kvdistill.target.mean import TargetMean


@dataclass(frozen=True, kw_only=True)
class Same:
    """The target is a cache of the student's own geometry: self-distillation.

    Source: KaVa, https://arxiv.org/abs/2510.02312, section 3.
    """

    kind: Literal["same"] = "same"


@dataclass(frozen=True, kw_only=True)
class Lift:
    """The student's cache is brought to each teacher's geometry by a trained projector, dropped afterwards.

    Source: ours; a regressor onto a wider teacher, dropped later: https://arxiv.org/abs/1412.6550.
    """

    kind: Literal["lift"] = "lift"


BridgeMethod = Same | Lift
"""Every bridge, told apart by ``kind``."""


class Bridge(nn.Module):
    """What bridges share: a target builder a teacher, and what of them belongs into a checkpoint."""

    compares_as_cached: ClassVar[bool] = False
    """Whether target and student keys may be compared with the rotations of their own caches."""

    def __init__(self, builders: Mapping[str, TargetBuilder]) -> None:
        super().__init__()
        self.builders = dict(builders)

    def forward(
        self,
        caches: Sequence[TeacherCache],
        student: ModelKV,
        cot_id: Int[Tensor, " B"],
        draw: int,
        layer_weights: Float[Tensor, " L"] | None = None,
    ) -> tuple[KVPair, ...]:
        """Pairs of target and student cache.

        Args:
            caches: what the teachers give for the batch.
            student: the latent cache, M slots a layer and head, in the autograd graph.
            cot_id: equal numbers mark samples with equal chains of thought.
            draw: seeds the partners of a control.
            layer_weights: weight of each student layer; None weighs all alike.
        """
        return tuple(self.pair(cache, student, cot_id, draw, layer_weights) for cache in caches)

    def pair(
        self,
        cache: TeacherCache,
        student: ModelKV,
        cot_id: Int[Tensor, " B"],
        draw: int,
        layer_weights: Float[Tensor, " L"] | None,
    ) -> KVPair:
        """One teacher's pair."""
        raise NotImplementedError

    def means(self) -> dict[str, TargetMean | None]:
        """The running mean of each teacher's targets."""
        return {name: builder.mean for name, builder in self.builders.items()}

    def set_means(self, means: Mapping[str, TargetMean | None]) -> None:
        """Put back what ``means`` gave."""
        for name, builder in self.builders.items():
            builder.mean = means[name]

    def diagnostics(self, caches: Sequence[TeacherCache]) -> dict[str, Tensor]:
        """The compressor's numbers for the log, under the teacher's name where there are several."""
        found: dict[str, Tensor] = {}
        for cache in caches:
            prefix = f"{cache.teacher}_" if len(caches) > 1 else ""
            numbers = self.builders[cache.teacher].method.diagnostics(cache.kv)
            found |= {f"{prefix}{name}": value for name, value in numbers.items()}
        return found

    def state(self) -> dict[str, Tensor]:
        """What belongs into a checkpoint: ``TEACHER/mean/...`` for each running mean."""
        return {
            f"{name}/mean/{key}": value
            for name, builder in self.builders.items()
            for key, value in builder.state().items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what ``state`` gave."""
        for name, builder in self.builders.items():
            builder.load_state(part(state, f"{name}/mean/"))


class SameBridge(Bridge):
    """See ``Same``."""

    compares_as_cached = True

    def pair(
        self,
        cache: TeacherCache,
        student: ModelKV,
        cot_id: Int[Tensor, " B"],
        draw: int,
        layer_weights: Float[Tensor, " L"] | None,
    ) -> KVPair:
        """The target beside the student's cache as it is."""
        return KVPair(self.builders[cache.teacher](cache.kv, cot_id, draw), student, layer_weights)


class LiftBridge(Bridge):
    """See ``Lift``."""

    def __init__(self, builders: Mapping[str, TargetBuilder], projectors: Mapping[str, Projector]) -> None:
        super().__init__(builders)
        self.projectors = nn.ModuleDict(projectors)

    def pair(
        self,
        cache: TeacherCache,
        student: ModelKV,
        cot_id: Int[Tensor, " B"],
        draw: int,
        layer_weights: Float[Tensor, " L"] | None,
    ) -> KVPair:
        """The target's chosen layers beside the student's cache in the teacher's heads and widths."""
        projector = self.projector(cache.teacher)
        lifted = projector.move(student)
        target = projector.select(self.builders[cache.teacher](cache.kv, cot_id, draw))
        return KVPair(target, lifted, projector.weights(layer_weights))

    def projector(self, teacher: str) -> Projector:
        """The projector up to a teacher."""
        found = self.projectors[teacher]
        assert isinstance(found, Projector)
        return found

    def state(self) -> dict[str, Tensor]:
        """The running means, and the projectors' weights."""
        return super().state() | {
            f"{name}/projector/{key}": value
            for name, projector in self.projectors.items()
            for key, value in projector.state_dict().items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what ``state`` gave."""
        super().load_state(state)
        for name, projector in self.projectors.items():
            projector.load_state_dict(part(state, f"{name}/projector/"))


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
