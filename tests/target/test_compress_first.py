"""The bridge that compresses before it fuses: matched slots, coverage, controls, and what it refuses."""

from collections.abc import Mapping

import pytest
import torch

from kvdistill.align import Adapter, Identity, NearestSlot, Ratio, SoftSlot
from kvdistill.align.aligner import Aligner
from kvdistill.align.layer_map import Nearest
from kvdistill.compress import RKV, StepEnd, Uniform
from kvdistill.compress.base import Compressor
from kvdistill.kv import ModelKV, TeacherCache
from kvdistill.target.build import TargetBuilder
from kvdistill.target.compress_first import CompressFirstBridge
from kvdistill.target.controls import Control, MeanTarget, NoControl, OtherSample
from kvdistill.target.lower import FUSED
from pico_align import cache, geometry

SHAPE = geometry(2, 2, 3, 3)
DEEP = geometry(4, 2, 3, 3)


def bridge(
    weights: Mapping[str, float],
    method: Compressor | None = None,
    control: Control | None = None,
    match: NearestSlot | SoftSlot | None = None,
) -> CompressFirstBridge:
    """A bridge to copies of the student, with three slots."""
    aligners = {
        name: Aligner(Adapter(SHAPE, SHAPE, Ratio().pair(SHAPE, SHAPE), Identity())) for name in weights
    }
    builder = TargetBuilder(method or Uniform(), control or NoControl(), 3)  # pyright: ignore
    return CompressFirstBridge(builder, aligners, weights, SHAPE, match=match)


def fused(some: CompressFirstBridge, *caches: TeacherCache) -> TeacherCache:
    (merged,) = some.merge(caches, {}, caches[0].kv)
    return merged


def target(some: CompressFirstBridge, merged: TeacherCache) -> ModelKV:
    (pair,) = some([merged], cache(SHAPE, slots=3), torch.arange(2), 0)
    return pair.target


@pytest.mark.parametrize("match", [NearestSlot(), SoftSlot()])
def test_one_teacher_through_the_identity_is_its_own_compressed_cache(match: NearestSlot | SoftSlot) -> None:
    kv, one = cache(SHAPE, slots=7), bridge({"a": 0.7}, match=match)
    found = target(one, fused(one, TeacherCache("a", kv)))
    for got, wanted in zip(found.layers, Uniform().compress(kv, 3).layers, strict=True):
        assert torch.equal(got.keys, wanted.keys)
        assert torch.equal(got.values, wanted.values)
        assert torch.equal(got.mask, wanted.mask)


def test_texts_of_other_lengths_are_fused_slot_by_slot() -> None:
    short, long = cache(SHAPE, slots=3), cache(SHAPE, slots=8)
    some = bridge({"a": 1.0, "b": 3.0})
    found = target(some, fused(some, TeacherCache("a", short), TeacherCache("b", long)))
    kept = Uniform().compress(long, 3).layers[1]
    torch.testing.assert_close(found.layers[1].keys, 0.25 * short.layers[1].keys + 0.75 * kept.keys)


def test_a_teacher_without_a_chain_is_left_out_and_none_is_no_target() -> None:
    read = torch.tensor([[True] * 5, [False] * 5])
    a, b = cache(SHAPE, mask=read), cache(SHAPE, slots=4, mask=torch.zeros(2, 4, dtype=torch.bool))
    some = bridge({"a": 0.5, "b": 0.5})
    merged = fused(some, TeacherCache("a", a), TeacherCache("b", b))
    assert merged.covered is not None
    assert merged.covered.tolist() == [[True] * 3, [False] * 3]
    found = target(some, merged).layers[0]
    assert found.mask[:, 0].tolist() == [[True] * 3, [False] * 3]
    torch.testing.assert_close(found.keys[0], Uniform().compress(a, 3).layers[0].keys[0])


def test_fewer_steps_than_slots_share_a_step() -> None:
    """Five tokens of which the second and the fourth end a step: 3 slots read steps 0, 1 (of .5) and 1."""
    kv, some = cache(SHAPE), bridge({"a": 1.0}, StepEnd())
    found = target(some, fused(some, TeacherCache("a", kv))).layers[0]
    assert torch.equal(found.keys, kv.layers[0].keys[:, :, [1, 3, 3]])
    assert found.mask.all()


def test_controls_work_on_the_fused_slots_and_validation_does_without() -> None:
    kv = cache(SHAPE, slots=3)
    other = bridge({"a": 1.0}, control=OtherSample())
    merged = fused(other, TeacherCache("a", kv))
    assert torch.equal(target(other, merged).layers[0].keys, kv.layers[0].keys.flip(0))
    plain = other.without_control()
    assert isinstance(plain, CompressFirstBridge)
    assert plain.builders[FUSED].compressed
    assert torch.equal(target(plain, merged).layers[0].keys, kv.layers[0].keys)
    mean = bridge({"a": 1.0}, control=MeanTarget())
    found = target(mean, fused(mean, TeacherCache("a", kv)))
    torch.testing.assert_close(found.layers[0].keys[0], kv.layers[0].keys.mean(0))


def test_diagnostics_are_those_of_each_teacher_before_compression() -> None:
    a, b = cache(SHAPE), cache(SHAPE, slots=6)
    some = bridge({"a": 1.0, "b": 1.0}, RKV(selection="shared"))
    caches = [TeacherCache("a", a), TeacherCache("b", b)]
    found = some.diagnostics(some.merge(caches, {}, a), caches)
    assert torch.equal(found["a_importance_max"], RKV().diagnostics(a)["importance_max"])
    assert "b_distinctness_min" in found


def test_layers_that_hold_different_tokens_are_not_mixed() -> None:
    kv, ours = cache(DEEP, slots=9), geometry(3, 2, 3, 3)
    for layers, refused in ((Ratio(), True), (Nearest(), False)):
        adapter = Adapter(ours, DEEP, layers.pair(ours, DEEP))
        builder = TargetBuilder(RKV(selection="shared"), NoControl(), 3)
        some = CompressFirstBridge(builder, {"a": Aligner(adapter)}, {"a": 1.0}, ours)
        if refused:
            with pytest.raises(ValueError, match=r"^teachers.a.layers reads several .* to step_end or unif"):
                fused(some, TeacherCache("a", kv))
        else:
            assert fused(some, TeacherCache("a", kv)).kv.layers[0].keys.shape == (2, 2, 3, 3)


def test_other_tokens_in_each_head_are_refused() -> None:
    some = bridge({"a": 1.0}, RKV())
    with pytest.raises(ValueError, match="or with selection 'shared'"):
        fused(some, TeacherCache("a", cache(SHAPE, slots=12)))
