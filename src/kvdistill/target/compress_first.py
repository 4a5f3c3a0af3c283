"""Bridge to teachers that read other texts than the student: compressed first, then matched and fused."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from kvdistill.align.aligner import Aligner
from kvdistill.align.time_align import NearestSlot, SlotMatch
from kvdistill.fuse.weights import TeacherWeights
from kvdistill.kv import Geometry, ModelKV, TeacherCache
from kvdistill.ops import host_reads
from kvdistill.target.build import TargetBuilder
from kvdistill.target.lower import FUSED, LowerBridge
from kvdistill.text import TokenAlignment


class CompressFirstBridge(LowerBridge):
    """Compresses every teacher's cache on its own text, matches the slots, aligns and fuses them.

    Order: compression, slots, layers and heads, key norm, fusion, key norm. Texts may differ, so the tokens
    of a teacher have no counterpart among the student's; its steps have one among the slots. The fused cache
    has M slots and is not compressed again. A teacher whose text has no slot, such as one without a chain of
    thought for the sample, covers none.

    Args:
        builder: The target builder; its compressor keeps the same tokens in all heads.
        aligners: The aligner of each teacher, by the teacher's short name.
        weights: Weight of each teacher in the fusion, above 0, by the same names.
        student: The student's attention layers.
        fusion: Weights that depend on the sample; None takes ``weights``.
        match: How slots are matched.

    Source: ours.
    """

    def __init__(
        self,
        builder: TargetBuilder,
        aligners: Mapping[str, Aligner],
        weights: Mapping[str, float],
        student: Geometry,
        fusion: TeacherWeights | None = None,
        *,
        match: SlotMatch | None = None,
    ) -> None:
        super().__init__(replace(builder, compressed=True), aligners, weights, student, fusion)
        self.slot_match = match or NearestSlot()

    def align(
        self, caches: Sequence[TeacherCache], alignments: Mapping[str, TokenAlignment]
    ) -> tuple[list[ModelKV], Bool[Tensor, "B E M"]]:
        """The teachers' caches in M slots and in the student's geometry, before they are fused.

        Args:
            caches: The teachers' caches of the batch, each over the tokens of its own text.
            alignments: Not used: texts may differ.

        Returns:
            One cache per teacher, in which every slot is valid and has its own number as position; and the
            slots that each teacher covers: all of a text that has any.

        Raises:
            ValueError: if the compressor keeps other tokens in some layers than in others, and the layer map
                mixes them.
        """
        aligned, covered = [], []
        for cache in caches:
            slots = self.in_slots(cache)
            covered.append(slots.layers[0].mask[:, 0])
            moved = self.aligner(cache.teacher)(slots, None)
            aligned.append(_on_one_clock(moved))
        return aligned, torch.stack(covered, 1)

    def in_slots(self, cache: TeacherCache) -> ModelKV:
        """A teacher's cache in M slots, in its own geometry.

        Args:
            cache: The cache over the tokens of the teacher's text.

        Returns:
            M slots; all valid where the text has any, else none.
        """
        builder = self.builders[FUSED]
        # Scores need float32; autocast would compute their matrix products in half precision.
        with torch.autocast(cache.kv.layers[0].keys.device.type, enabled=False):
            found = self.slot_match.match(builder.method.compress(cache.kv, builder.slots), builder.slots)
        self._require_unmixed(cache.teacher, found)
        return found

    def _require_unmixed(self, teacher: str, kv: ModelKV) -> None:
        """Refuse a map that reads several layers of a teacher which hold different tokens."""
        if not host_reads(kv.layers[0].positions):
            return
        adapter = self.aligner(teacher).adapter
        for index in range(len(self.student.layers)):
            first, *others = adapter.sources(index, kv)
            for other in others:
                if not torch.equal(first.positions[:, 0], other.positions[:, 0]):
                    raise ValueError(
                        f"teachers.{teacher}.layers reads several layers of the teacher for one of the "
                        f"student, and target.method {self.builders[FUSED].method.kind} keeps other tokens "
                        f"in each: set teachers.{teacher}.layers.kind to nearest or last_aligned, or "
                        "target.method.kind to step_end or uniform."
                    )

    def diagnostics(
        self, caches: Sequence[TeacherCache], read: Sequence[TeacherCache] = ()
    ) -> dict[str, Tensor]:
        """The compressor's metrics of each teacher's own cache."""
        found: dict[str, Tensor] = {}
        for cache in read:
            prefix = ""
            if len(read) > 1:
                prefix = f"{cache.teacher}_"
            numbers = self.builders[FUSED].method.diagnostics(cache.kv)

            found |= {f"{prefix}{name}": value for name, value in numbers.items()}
        return found


def _on_one_clock(kv: ModelKV) -> ModelKV:
    """The same cache with valid slots only, whose positions are their numbers."""
    layers = []
    for layer in kv.layers:
        number = torch.arange(layer.mask.shape[-1], device=layer.mask.device)
        # Which of them a teacher covers is known by sample and teacher, not by layer.
        layers.append(
            layer.replace(
                mask=torch.ones_like(layer.mask), positions=number.expand(layer.mask.shape), step_end=None
            )
        )
    return kv.map(tuple(layers))
