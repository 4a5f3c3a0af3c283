"""The bridge that fuses aligned teachers: weights, copies, coverage, order, and its checkpoint state."""

from collections.abc import Mapping

import pytest
import torch

from kvdistill.align import Adapter, GroupMean, Identity, LayerMap, LayerPair, Learned, Ratio, Ridge
from kvdistill.align.adapter_base import AdapterSettings
from kvdistill.align.aligner import Aligner
from kvdistill.compress import RKV, Uniform
from kvdistill.fuse.methods import Draw, FusionShape
from kvdistill.fuse.weights import RouteInputs, TeacherWeights
from kvdistill.kv import Geometry, TeacherCache
from kvdistill.target.build import TargetBuilder
from kvdistill.target.controls import NoControl
from kvdistill.target.lower import FUSED, LowerBridge
from kvdistill.text import TokenAlignment
from pico_align import cache, geometry

SHAPE = geometry(2, 2, 3, 3)


def bridge(
    weights: Mapping[str, float],
    method: AdapterSettings | None = None,
    teacher: Geometry = SHAPE,
    fusion: TeacherWeights | None = None,
) -> LowerBridge:
    """A bridge to teachers of one geometry that keeps three tokens."""
    aligners = {
        name: Aligner(Adapter(SHAPE, teacher, Ratio().pair(SHAPE, teacher), method or Identity()))  # pyright: ignore
        for name in weights
    }
    return LowerBridge(TargetBuilder(Uniform(), NoControl(), 3), aligners, weights, SHAPE, fusion)


def test_one_teacher_through_the_identity_is_its_own_compressed_cache() -> None:
    kv, student = cache(SHAPE), cache(SHAPE, slots=3)
    one = bridge({"a": 0.7})
    (merged,) = one.merge([TeacherCache("a", kv)], {}, kv)
    (pair,) = one([merged], student, torch.arange(2), 0)
    expected = Uniform().compress(kv, 3)
    for got, wanted in zip(pair.target.layers, expected.layers, strict=True):
        assert torch.equal(got.keys, wanted.keys)
        assert torch.equal(got.values, wanted.values)
    assert pair.student is student
    assert pair.scale is None


def test_two_copies_are_one_and_weights_of_zero_leave_a_teacher_out() -> None:
    kv, other = cache(SHAPE), cache(SHAPE)
    (alone,) = bridge({"a": 1.0}).merge([TeacherCache("a", kv)], {}, kv)
    copies = [TeacherCache("a", kv), TeacherCache("b", kv)]
    (both,) = bridge({"a": 0.5, "b": 0.5}).merge(copies, {}, kv)
    (first,) = bridge({"a": 1.0, "b": 0.0}).merge([TeacherCache("a", kv), TeacherCache("b", other)], {}, kv)
    for merged in (both, first):
        assert torch.equal(merged.kv.layers[1].keys, alone.kv.layers[1].keys)
        assert torch.equal(merged.kv.layers[1].values, alone.kv.layers[1].values)


def test_the_order_of_teachers_does_not_matter() -> None:
    a, b = TeacherCache("a", cache(SHAPE)), TeacherCache("b", cache(SHAPE))
    some = bridge({"a": 0.2, "b": 0.8})
    (ahead,), (behind,) = some.merge([a, b], {}, a.kv), some.merge([b, a], {}, a.kv)
    assert torch.equal(ahead.kv.layers[0].keys, behind.kv.layers[0].keys)


def test_a_draw_fuses_the_cache_of_one_teacher_a_sample() -> None:
    caches = {name: TeacherCache(name, cache(SHAPE)) for name in "ab"}
    rates = {"a": 0.5, "b": 0.5}
    some = bridge(rates, fusion=Draw().module(FusionShape(("a", "b"), (0.5, 0.5), 1, 2)))
    drawn = set()
    for step in range(20):
        route = RouteInputs(sample_ids=("x", "y"), step=step)
        # The order of the caches is not that of the weights.
        (merged,) = some.merge([caches["b"], caches["a"]], {}, caches["a"].kv, route)
        assert merged.routing is not None
        names = ["ba"[column] for column in merged.routing.weights.argmax(-1).tolist()]
        for row, name in enumerate(names):
            assert torch.equal(merged.kv.layers[1].keys[row], caches[name].kv.layers[1].keys[row])
        drawn.add("".join(names))
    assert drawn == {"aa", "ab", "ba", "bb"}


def test_a_token_that_no_teacher_covers_keeps_its_slot_masked() -> None:
    kv = cache(SHAPE, batch=1, slots=3)
    index = torch.tensor([[[0], [0], [2]]])
    weights = torch.tensor([[[1.0], [0.0], [1.0]]])
    covered = torch.tensor([[True, False, True]])
    alignment = TokenAlignment(index, weights, weights, torch.ones(1, 3, dtype=torch.bool), covered, covered)
    one = bridge({"a": 1.0})
    (merged,) = one.merge([TeacherCache("a", kv)], {"a": alignment}, kv)
    assert merged.covered is not None
    assert merged.covered.tolist() == [[True, False, True]]
    (pair,) = one([merged], cache(SHAPE, batch=1, slots=3), torch.arange(1), 0)
    layer = pair.target.layers[0]
    assert layer.mask[0, 0].tolist() == [True, False, True]
    # The third slot is still the third token.
    assert layer.positions[0, 0].tolist() == [0, 1, 2]
    torch.testing.assert_close(layer.keys[0, 0, 2], kv.layers[0].keys[0, 0, 2])


def test_importance_chooses_the_slots_of_the_fused_cache() -> None:
    """With weight on the second teacher, R-KV by importance alone keeps the tokens that it attends to."""
    a, b = cache(SHAPE, batch=1, slots=4), cache(SHAPE, batch=1, slots=4)
    strong = torch.tensor([0.0, 0.0, 0.4, 0.6]).expand(1, 2, 4)
    weak = torch.tensor([0.5, 0.5, 0.0, 0.0]).expand(1, 2, 4)
    a = a.map(tuple(layer.replace(importance=weak) for layer in a.layers))
    b = b.map(tuple(layer.replace(importance=strong) for layer in b.layers))
    some = bridge({"a": 0.1, "b": 0.9})
    method = RKV(importance_weight=1.0, selection="shared")
    some.builders[FUSED] = TargetBuilder(method, NoControl(), 2)
    (merged,) = some.merge([TeacherCache("a", a), TeacherCache("b", b)], {}, a)
    (pair,) = some([merged], cache(SHAPE, batch=1, slots=2), torch.arange(1), 0)
    assert pair.target.layers[0].positions[0, 0].tolist() == [2, 3]


def test_a_trained_adapter_adds_its_term() -> None:
    kv = cache(SHAPE)
    learned = bridge({"a": 1.0}, Learned())
    assert learned.learns
    (merged,) = learned.merge([TeacherCache("a", kv)], {}, kv)
    assert merged.regularizer is not None
    assert merged.regularizer > 0
    fixed = bridge({"a": 1.0}, GroupMean())
    assert not fixed.learns
    assert fixed.merge([TeacherCache("a", kv)], {}, kv)[0].regularizer is None


@pytest.mark.parametrize("method", [Ridge(), Ridge(shared=True)])
def test_state_restores_adapters_layer_maps_and_scale(method: Ridge) -> None:
    teacher = geometry(3, 1, 4, 5)
    before = bridge({"a": 1.0}, method, teacher)
    before.set_layers("a", LayerMap((LayerPair(0, 2, 1.0), LayerPair(1, 0, 0.5), LayerPair(1, 1, 0.5))))
    before.scale = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    with torch.no_grad():
        for parameter in before.parameters():
            torch.nn.init.normal_(parameter)
    after = bridge({"a": 1.0}, method, teacher)
    after.load_state(before.state())
    kv = cache(teacher)
    old, new = (each.merge([TeacherCache("a", kv)], {}, kv)[0].kv for each in (before, after))
    assert torch.equal(old.layers[1].keys, new.layers[1].keys)
    (pair,) = after([TeacherCache(FUSED, new)], cache(SHAPE, slots=3), torch.arange(2), 0)
    assert torch.equal(pair.scale, before.scale)  # pyright: ignore
    with pytest.raises(KeyError, match="b/layers"):
        bridge({"b": 1.0}, Ridge(), teacher).load_state(before.state())
