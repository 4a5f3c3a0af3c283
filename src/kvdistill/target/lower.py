"""Bridge to several teachers: caches aligned with the student's, fused, and compressed to one target."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kvdistill.align.aligner import Aligner
from kvdistill.align.head_dim_adapter import Adapter
from kvdistill.align.key_norm import to_key_norm
from kvdistill.align.layer_map import LayerMap
from kvdistill.fuse import fuse, normalized_weights
from kvdistill.fuse.weights import RouteInputs, TeacherWeights
from kvdistill.kv import Geometry, KVPair, ModelKV, TeacherCache
from kvdistill.target.bridge import Bridge, part
from kvdistill.target.build import TargetBuilder
from kvdistill.text import TokenAlignment

FUSED = "fused"
"""Name of the one cache and target that the teachers share."""


class LowerBridge(Bridge):
    """Aligns every teacher's cache with the student, fuses them and builds one target; see ``Lower``.

    Order: tokens, layers and heads, key norm, fusion, key norm, compression. So slots are chosen once, on the
    fused cache, with the student's own step ends.

    Args:
        builder: The target builder of the fused cache.
        aligners: The aligner of each teacher, by the teacher's short name.
        weights: Weight of each teacher in the fusion, above 0, by the same names.
        student: The student's attention layers.
        fusion: Weights that depend on the sample; None takes ``weights``.

    Source: ours.
    """

    fuses: ClassVar[bool] = True
    scale: Float[Tensor, "L 2"] | None

    def __init__(
        self,
        builder: TargetBuilder,
        aligners: Mapping[str, Aligner],
        weights: Mapping[str, float],
        student: Geometry,
        fusion: TeacherWeights | None = None,
    ) -> None:
        super().__init__({FUSED: builder}, fusion)
        self.aligners = nn.ModuleDict(aligners)
        self.weights = dict(weights)
        self.student = student
        # Standard deviations of the student's own cache, measured with the adapters; a constant of the run.
        self.register_buffer("scale", None)

    @property
    def learns(self) -> bool:
        """Whether an adapter is trained along with the student."""
        return any(parameter.requires_grad for parameter in self.aligners.parameters())

    def aligner(self, teacher: str) -> Aligner:
        """The aligner of a teacher.

        Args:
            teacher: Short name of the teacher.

        Returns:
            The module itself.
        """
        found = self.aligners[teacher]
        # A ModuleDict is typed as holding plain modules.
        assert isinstance(found, Aligner)
        return found

    def set_layers(self, teacher: str, layer_map: LayerMap) -> None:
        """Give a teacher's aligner another layer map, as one that is measured (CKA); its maps are new.

        Args:
            teacher: Short name of the teacher.
            layer_map: The teacher layers of each student layer.
        """
        old = self.aligner(teacher).adapter
        # An adapter of other layers has weights of other shapes.
        self.aligners[teacher] = Aligner(Adapter(old.student, old.teacher, layer_map, old.method))

    def merge(
        self,
        caches: Sequence[TeacherCache],
        alignments: Mapping[str, TokenAlignment],
        own: ModelKV,
        route: RouteInputs | None = None,
    ) -> tuple[TeacherCache, ...]:
        """One fused cache over the student's N tokens, in the student's geometry.

        Args:
            caches: The teachers' caches of the batch.
            alignments: By teacher, the alignment of its tokens with the student's, where they differ.
            own: The student's own cache over its N tokens, for the regularizer of trained adapters.
            route: The questions' vectors and the teachers' competence, for a fusion that depends on them.

        Returns:
            The fused cache, with the tokens that at least one teacher covers.
        """
        aligned, covered = self.align(caches, alignments)
        # Filled on the device: a tensor made from a list would be copied from the host in every step.
        weights = torch.stack(
            [covered.new_full((), self.weights[cache.teacher], dtype=torch.float32) for cache in caches]
        )
        routing = None
        if self.fusion is not None:
            routing = self.routing([cache.teacher for cache in caches], covered.any(-1), route)
            weights = routing.weights
        fused = fuse(aligned, normalized_weights(weights, covered))
        if len(caches) > 1:
            # A mean of vectors on a shell is inside it.
            fused = to_key_norm(fused, self.student)
        regularizer = None
        if self.learns:
            names = [cache.teacher for cache in caches]
            regularizer = self._regularizer(dict(zip(names, aligned, strict=True)), own)
        return (TeacherCache(FUSED, fused, covered.any(1), regularizer, routing),)

    def _regularizer(self, aligned: Mapping[str, ModelKV], own: ModelKV) -> Float[Tensor, ""]:
        """The sum of the terms of trained adapters, given the aligned cache of each teacher."""
        scale = self._scale_on(own.layers[0].keys.device)
        all_reduce_sum = None
        if self.training:  # in training alone every process merges as many batches as the others
            all_reduce_sum = self.builders[FUSED].all_reduce_sum
        terms = [
            self.aligner(name).regularizer(moved, own, scale, all_reduce_sum)
            for name, moved in aligned.items()
        ]
        return torch.stack(terms).sum()

    def align(
        self, caches: Sequence[TeacherCache], alignments: Mapping[str, TokenAlignment]
    ) -> tuple[list[ModelKV], Bool[Tensor, "B E N"]]:
        """The teachers' caches in the student's geometry, before they are fused.

        Args:
            caches: The teachers' caches of the batch.
            alignments: By teacher, the alignment of its tokens with the student's, where they differ.

        Returns:
            One cache per teacher over the student's N tokens, and the tokens that each teacher covers.
        """
        aligned = [self.aligner(cache.teacher)(cache.kv, alignments.get(cache.teacher)) for cache in caches]
        covered = [covered_tokens(cache, alignments.get(cache.teacher)) for cache in caches]
        return aligned, torch.stack(covered, 1)

    def match(
        self, teacher: str, target: ModelKV, student: ModelKV, layer_weights: Float[Tensor, " L"] | None
    ) -> KVPair:
        """The fused target with the student's cache as it is, and the scale of the loss."""
        return KVPair(target, student, layer_weights, scale=self._scale_on(target.layers[0].keys.device))

    def _scale_on(self, device: torch.device) -> Float[Tensor, "L 2"] | None:
        if self.scale is None:
            return None
        return self.scale.to(device)

    def state(self) -> dict[str, Tensor]:
        """State for a checkpoint.

        Returns:
            Tensors by name: those of the base, ``TEACHER/aligner/...`` with the adapter's weights,
            ``TEACHER/layers`` with its layer map, and ``scale``.
        """
        found = super().state()
        for name in self.aligners:
            aligner = self.aligner(name)
            found[f"{name}/layers"] = aligner.adapter.layer_map.tensor()
            found |= {f"{name}/aligner/{key}": value for key, value in aligner.state_dict().items()}
        if self.scale is not None:
            found["scale"] = self.scale
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from a checkpoint.

        Args:
            state: The result of ``state``.
        """
        super().load_state(state)
        for name in self.aligners:
            adapter = self.aligner(name).adapter
            layer_map = LayerMap.of_tensor(state[f"{name}/layers"])
            if layer_map != adapter.layer_map:
                self.set_layers(name, layer_map)
            self.aligners[name].load_state_dict(part(state, f"{name}/aligner/"))
        self.scale = state.get("scale")


def covered_tokens(cache: TeacherCache, alignment: TokenAlignment | None) -> Bool[Tensor, "B N"]:
    """The student's tokens that a teacher has read.

    Args:
        cache: The teacher's cache.
        alignment: Its tokens and the student's; None where they are the same, so that it covers all.

    Returns:
        (B, N), True where the teacher covers the token.
    """
    if alignment is None:
        return cache.kv.layers[0].mask[:, 0]
    return alignment.covered


def only_covered(kv: ModelKV, covered: Bool[Tensor, "B N"]) -> ModelKV:
    """Mask the tokens that a teacher has not read.

    Args:
        kv: A cache over the student's N tokens.
        covered: (B, N), from ``covered_tokens``.

    Returns:
        The cache with narrower masks.
    """
    return kv.map(tuple(layer.replace(mask=layer.mask & covered[:, None]) for layer in kv.layers))
