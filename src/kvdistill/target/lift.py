"""Bridge to teachers of other geometries: projectors map the student's cache to their heads and widths."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kvdistill.align.projector import Projector
from kvdistill.fuse.weights import RouteInputs, TeacherWeights
from kvdistill.kv import KVPair, ModelKV, TeacherCache
from kvdistill.target.bridge import Bridge, part
from kvdistill.target.build import TargetBuilder
from kvdistill.text import TokenAlignment


class LiftBridge(Bridge):
    """Bridge to teachers of other geometries; see ``Lift``.

    Args:
        builders: The target builder of each teacher, by the teacher's short name.
        projectors: The projector to each teacher's geometry, by the same names; trained, or fixed.
        weights: Weight of each teacher's loss, above 0, by the same names; None weighs all alike.
        fusion: Weights of the losses that depend on the sample; None takes ``weights``.
    """

    def __init__(
        self,
        builders: Mapping[str, TargetBuilder],
        projectors: Mapping[str, Projector],
        weights: Mapping[str, float] | None = None,
        fusion: TeacherWeights | None = None,
    ) -> None:
        super().__init__(builders, fusion)
        # Modules, so that the optimizer, DDP or FSDP and checkpoints see them.
        self.projectors = nn.ModuleDict(projectors)
        weights = weights or dict.fromkeys(projectors, 1.0)
        self.shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}

    def merge(
        self,
        caches: Sequence[TeacherCache],
        alignments: Mapping[str, TokenAlignment],
        own: ModelKV,
        route: RouteInputs | None = None,
    ) -> tuple[TeacherCache, ...]:
        """The caches themselves, with the weights of their losses where these depend on the sample."""
        if self.fusion is None:
            return tuple(caches)
        # (B, E): a teacher without a chain of thought for a sample has no token there.
        present = torch.stack([cache.kv.layers[0].mask.flatten(1).any(1) for cache in caches], 1)
        routing = self.routing([cache.teacher for cache in caches], present, route)
        return tuple(replace(cache, routing=routing) for cache in caches)

    def forward(
        self,
        caches: Sequence[TeacherCache],
        student: ModelKV,
        cot_id: Int[Tensor, " B"],
        draw: int,
        layer_weights: Float[Tensor, " L"] | None = None,
    ) -> tuple[KVPair, ...]:
        """Pairs of target and projected student cache; a pair's share of a sample is its teacher's weight."""
        pairs = super().forward(caches, student, cot_id, draw, layer_weights)
        routing = caches[0].routing
        if routing is None:
            return pairs
        # (B, E) -> (B,) for each pair; in the graph of a router.
        shares = routing.weights.unbind(-1)
        return tuple(replace(pair, share=share) for pair, share in zip(pairs, shares, strict=True))

    def match(
        self, teacher: str, target: ModelKV, student: ModelKV, layer_weights: Float[Tensor, " L"] | None
    ) -> KVPair:
        """The target's mapped layers with the projected student cache; one layer weight per mapped layer."""
        projector = self.projector(teacher)
        # Student to teacher: the target depends on no trained parameter. It is compressed before the layers
        # are selected, since a teacher layer may be in several pairs.
        theirs, ours = projector.select(target), projector.move(student)
        share = None
        if len(self.shares) > 1:
            batch = ours.layers[0].keys
            share = batch.new_full((len(batch),), self.shares[teacher], dtype=torch.float32)
        return KVPair(theirs, ours, projector.weights(layer_weights), share)

    def projector(self, teacher: str) -> Projector:
        """The projector to a teacher's geometry.

        Args:
            teacher: Short name of the teacher.

        Returns:
            The module itself.
        """
        found = self.projectors[teacher]
        # A ModuleDict is typed as holding plain modules.
        assert isinstance(found, Projector)
        return found

    def state(self) -> dict[str, Tensor]:
        """State for a checkpoint.

        Returns:
            Tensors by name: those of the base, and ``TEACHER/projector/...`` for the projectors' weights.
        """
        return super().state() | {
            f"{name}/projector/{key}": value
            for name, projector in self.projectors.items()
            for key, value in projector.state_dict().items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from a checkpoint.

        Args:
            state: The result of ``state``.
        """
        super().load_state(state)
        for name, projector in self.projectors.items():
            found = part(state, f"{name}/projector/")
            if "keys.0.bias" in found:
                self.projector(name).fix()
            # Strict: a missing or superfluous weight raises.
            projector.load_state_dict(found)
