"""Bridge: pairs of a teacher's target cache and the student's cache in the same geometry.

``SameBridge`` is for self-distillation, where both caches have the same heads and widths. ``LiftBridge``
(``target/lift.py``) maps the student's cache to each teacher's heads and widths. ``LowerBridge``
(``target/lower.py``) maps the teachers' caches to the student's and fuses them.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kvdistill.fuse import over_present
from kvdistill.fuse.weights import RouteInputs, TeacherWeights
from kvdistill.kv import KVPair, LossOutput, ModelKV, Routing, TeacherCache
from kvdistill.target.build import AllReduceSum, TargetBuilder
from kvdistill.target.controls import NoControl
from kvdistill.target.mean import TargetMean
from kvdistill.text import QuestionRead, TokenAlignment


class Bridge(nn.Module):
    """Base of the bridges: one target builder per teacher, and their checkpoint state.

    Args:
        builders: The target builder of each teacher, by the teacher's short name.
        fusion: Weights of the teachers that depend on the sample; None where they are constants.
    """

    fuses: ClassVar[bool] = False
    """Whether ``merge`` makes one cache of those of all teachers."""

    def __init__(self, builders: Mapping[str, TargetBuilder], fusion: TeacherWeights | None = None) -> None:
        super().__init__()
        self.fusion = fusion
        # A plain dictionary: builders are neither modules nor parameters.
        self.builders = dict(builders)

    question_read: QuestionRead | None = None
    """Which of the student's keys at the question the fusion reads; None where it reads none."""

    def merge(
        self,
        caches: Sequence[TeacherCache],
        alignments: Mapping[str, TokenAlignment],
        own: ModelKV,
        route: RouteInputs | None = None,
    ) -> tuple[TeacherCache, ...]:
        """The caches that targets are built from, one per builder.

        Args:
            caches: The teachers' caches of the batch.
            alignments: By teacher, the alignment of its tokens with the student's, where they differ.
            own: The student's own cache over its N tokens (teacher mode).
            route: What the weights of the teachers depend on; None where they are constants.

        Returns:
            The caches themselves; one fused cache where the bridge fuses them.
        """
        return tuple(caches)

    def observe(self, query: Float[Tensor, "B d"] | None) -> None:
        """Take note of the questions of a training step, before their caches are merged.

        Args:
            query: The questions' vectors; None where the fusion reads none.
        """
        if self.fusion is not None:
            self.fusion.observe(query, self._all_reduce_sum)

    def routing(
        self, teachers: Sequence[str], present: Bool[Tensor, "B E"], route: RouteInputs | None
    ) -> Routing:
        """The weights of some teachers, from a fusion that depends on the sample.

        Args:
            teachers: Short names, in any order.
            present: Whether each of them covers a token of the sample.
            route: The questions' vectors and the teachers' competence.

        Returns:
            Weights and competence, over the teachers that are present.
        """
        assert self.fusion is not None
        if route is None:
            raise ValueError(
                "This fusion weighs the teachers by the question: give merge the questions' vectors and the "
                "teachers' competence (RouteInputs)."
            )
        # The weights are in the order of all teachers; the caches may be of some, in any order.
        columns = [self.fusion.teachers.index(name) for name in teachers]
        absent = torch.zeros_like(present[:, 0])
        given = dict(zip(columns, present.unbind(-1), strict=True))
        among_all = torch.stack([given.get(place, absent) for place in range(len(self.fusion.teachers))], -1)
        # Softmax and logarithms in float32, also in a run with autocast.
        with torch.autocast(present.device.type, enabled=False):
            weights = self.fusion(replace(route, present=among_all))
            weights = over_present(_columns(weights, columns), present)
            competence = route.competence
            if competence is not None:
                competence = over_present(_columns(competence, columns), present)
        return Routing(weights, competence)

    def routing_terms(self, caches: Sequence[TeacherCache]) -> LossOutput | None:
        """The loss of the teachers' weights and what is logged of them.

        Args:
            caches: The result of ``merge``.

        Returns:
            A scalar and metrics; None where the weights are constants.
        """
        routing = caches[0].routing
        if self.fusion is None or routing is None:
            return None
        return self.fusion.terms(routing, self._all_reduce_sum)

    @property
    def _all_reduce_sum(self) -> AllReduceSum:
        return next(iter(self.builders.values())).all_reduce_sum

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
            caches: The result of ``merge``, each over N tokens of the chain of thought.
            student: The latent cache, M slots per layer and head, in the autograd graph.
            cot_id: (B,), equal where samples have the same chain of thought and answer.
            draw: Seed of a control's partners.
            layer_weights: (L,), weight of each student layer; None weighs all alike.

        Returns:
            One pair per cache, in their order.
        """
        pairs = []
        for cache in caches:
            # Each has a builder of its own, with the running mean of its targets.
            target = self.builders[cache.teacher](cache.kv, cot_id, draw, cache.covered)
            pairs.append(self.match(cache.teacher, target, student, layer_weights))
        return tuple(pairs)

    def match(
        self, teacher: str, target: ModelKV, student: ModelKV, layer_weights: Float[Tensor, " L"] | None
    ) -> KVPair:
        """Bring a target and the student's cache to one geometry.

        Args:
            teacher: The teacher's short name.
            target: The teacher's target, M slots (N tokens where the compressor keeps them).
            student: The latent cache, M slots per layer and head, in the autograd graph.
            layer_weights: (L,), weight of each student layer; None weighs all alike.

        Returns:
            The target, and the student's cache in the target's heads and widths.
        """
        raise NotImplementedError

    def without_control(self) -> "Bridge":
        """The same bridge for validation: targets of no control, with the same maps.

        Returns:
            A shallow copy; this bridge and its running means stay as they are.
        """
        found = copy(self)
        found.builders = {
            name: replace(builder, control=NoControl()) for name, builder in self.builders.items()
        }
        return found

    def means(self) -> dict[str, TargetMean | None]:
        """The running mean of each teacher's targets.

        Returns:
            Means by teacher; None where the control needs none or no batch has been seen.
        """
        return {name: builder.mean for name, builder in self.builders.items()}

    def set_means(self, means: Mapping[str, TargetMean | None]) -> None:
        """Restore the running means.

        Args:
            means: The result of ``means``, with an entry for every teacher.
        """
        for name, builder in self.builders.items():
            builder.mean = means[name]

    def diagnostics(
        self, caches: Sequence[TeacherCache], read: Sequence[TeacherCache] = ()
    ) -> dict[str, Tensor]:
        """The compressors' metrics for the log.

        Args:
            caches: The result of ``merge``, before compression.
            read: The caches that were merged.

        Returns:
            Scalars by name, prefixed with ``TEACHER_`` where there are several teachers.
        """
        found: dict[str, Tensor] = {}
        for cache in caches:
            # Without a prefix, one teacher has the same columns in the log as self-distillation.
            prefix = ""
            if len(caches) > 1:
                prefix = f"{cache.teacher}_"
            numbers = self.builders[cache.teacher].method.diagnostics(cache.kv)

            # Importance that was fused by a router's weights is in their graph.
            found |= {f"{prefix}{name}": value.detach() for name, value in numbers.items()}
        return found

    def state(self) -> dict[str, Tensor]:
        """State for a checkpoint.

        Returns:
            Tensors by name: ``TEACHER/mean/...`` for each running mean, ``fusion/...`` for the fusion.
        """
        found: dict[str, Tensor] = {}
        for name, builder in self.builders.items():
            found |= {f"{name}/mean/{key}": value for key, value in builder.state().items()}
        if self.fusion is not None:
            found |= {f"fusion/{key}": value for key, value in self.fusion.state_dict().items()}
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from a checkpoint.

        Args:
            state: The result of ``state``.
        """
        for name, builder in self.builders.items():
            builder.load_state(part(state, f"{name}/mean/"))
        if self.fusion is not None:
            self.fusion.load_state_dict(part(state, "fusion/"))


class SameBridge(Bridge):
    """Bridge of self-distillation; see ``Same``."""

    def match(
        self, teacher: str, target: ModelKV, student: ModelKV, layer_weights: Float[Tensor, " L"] | None
    ) -> KVPair:
        """The target with the student's cache as it is."""
        return KVPair(target, student, layer_weights)


def _columns(values: Float[Tensor, "*s E"], columns: Sequence[int]) -> Float[Tensor, "*s e"]:
    """Columns of a tensor, one by one: indices in a list would be copied to the device."""
    return torch.stack([values[..., column] for column in columns], dim=-1)


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Select the entries of a state by prefix.

    Args:
        state: Tensors by name.
        prefix: Start of the names to select.

    Returns:
        The selected tensors, by their names without the prefix.
    """
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def with_teacher_name(state: Mapping[str, Tensor], teacher: str) -> dict[str, Tensor]:
    """Add current names to a state of the first format: one teacher, whose name was not stored.

    Args:
        state: Tensors by name.
        teacher: Short name of the teacher.

    Returns:
        All tensors, those of the first format under both names.
    """
    old = {
        f"{teacher}/{name}": value
        for name, value in state.items()
        if name.startswith(("mean/", "projector/"))
    }
    return {**state, **old}
