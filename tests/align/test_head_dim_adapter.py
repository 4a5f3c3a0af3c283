"""The adapter by hand and by loops: what it maps, what it carries along, what it refuses."""

import pytest
import torch

from kvdistill.align.adapter_fitted import Learned, Ridge
from kvdistill.align.adapter_fixed import GroupMean, Identity, Repeat
from kvdistill.align.head_dim_adapter import Adapter, layer_blocks
from kvdistill.align.layer_map import LayerMap, LayerPair
from kvdistill.kv import Geometry, LayerGeometry, LayerKV, ModelKV, Rope, full_mask
from pico_align import cache, flat, geometry

STUDENT, TEACHER = geometry(2, 2, 4, 3), geometry(3, 4, 5, 2)
MAP = LayerMap((LayerPair(0, 0, 1.0), LayerPair(1, 1, 0.25), LayerPair(1, 2, 0.75)))


def stirred(method=None) -> Adapter:
    adapter = Adapter(STUDENT, TEACHER, MAP, method)
    for tensor in adapter.parameters():
        torch.nn.init.normal_(tensor.data)
    return adapter


def test_by_hand() -> None:
    """Two heads of width 1 go to one head of width 2 by (1 2; 3 4) and the bias (10, 20)."""
    adapter = Adapter(geometry(1, 1, 2, 1), geometry(1, 2, 1, 1), LayerMap((LayerPair(0, 0, 1.0),)))
    with torch.no_grad():
        adapter.keys[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        adapter.keys[0].bias.copy_(torch.tensor([10.0, 20.0]))
        adapter.values[0].weight.copy_(torch.tensor([[1.0, -1.0]]))
    states = torch.tensor([[[[1.0], [2.0]], [[10.0], [20.0]]]])
    importance = torch.tensor([[[0.25, 0.75], [0.75, 0.25]]])
    layer = LayerKV(states, states, full_mask(states), torch.tensor([[[0, 1]] * 2]), importance=importance)
    (moved,) = adapter.move(ModelKV((layer,), (0,), "two heads")).layers
    assert moved.keys.tolist() == [[[[31.0, 63.0], [52.0, 106.0]]]]
    assert moved.values.tolist() == [[[[-9.0], [-18.0]]]]
    assert moved.positions.tolist() == [[[0, 1]]]
    assert moved.importance.tolist() == [[[0.5, 0.5]]]
    assert moved.step_end is None


def test_maps_read_the_chosen_layers_head_by_head() -> None:
    adapter, teacher = stirred(), cache(TEACHER)
    moved = adapter.move(teacher)
    assert moved.layer_ids == (0, 1)
    for index, chosen in enumerate(((0,), (1, 2))):
        for name in ("keys", "values"):
            linear = getattr(adapter, name)[index]
            image = flat(teacher, chosen, name) @ linear.weight.T + linear.bias
            torch.testing.assert_close(flat(moved, (index,), name), image)


def test_importance_mask_and_steps_are_carried() -> None:
    mask = torch.arange(5).expand(2, 5) < torch.tensor([[5], [3]])
    teacher = cache(TEACHER, mask=mask)
    moved = stirred().move(teacher)
    one, two = (teacher.layers[index].importance.mean(1) for index in (1, 2))
    for layer in moved.layers:
        assert layer.mask.shape == (2, 2, 5)
        assert torch.equal(layer.mask[:, 1], mask)
        assert torch.equal(layer.positions[:, 1], teacher.layers[0].positions[:, 0])
        assert torch.equal(layer.step_end[:, 1], teacher.layers[0].step_end[:, 0])
        torch.testing.assert_close(layer.importance.sum(-1), torch.ones(2, 2))
    for head in range(2):
        torch.testing.assert_close(moved.layers[1].importance[:, head], 0.25 * one + 0.75 * two)
    bare = teacher.map((*teacher.layers[:2], teacher.layers[2].replace(importance=None)))
    assert [layer.importance is None for layer in stirred().move(bare).layers] == [False, True]


def test_padding_is_read_as_0() -> None:
    """Not a number in a masked slot reaches neither the other slots nor a gradient."""
    adapter, teacher = stirred(Learned()), cache(TEACHER, mask=torch.arange(5).expand(2, 5) < 4)
    clean = adapter.move(teacher).layers
    for layer in teacher.layers:
        layer.keys[:, :, 4], layer.values[:, :, 4] = torch.nan, torch.nan
    moved = adapter.move(teacher).layers
    assert all(torch.equal(a.keys, b.keys) for a, b in zip(moved, clean, strict=True))
    sum(layer.keys.sum() + layer.values.sum() for layer in moved).backward()
    assert all(tensor.grad.isfinite().all() for tensor in adapter.parameters())


def test_layers_are_found_by_id() -> None:
    """Models with layers without attention: 1 and 5 of the student have it, 0, 4 and 6 of the teacher."""
    student, teacher = Geometry(STUDENT.layers, (1, 5)), Geometry(TEACHER.layers, (0, 4, 6))
    plain, skipping = stirred(), Adapter(student, teacher, MAP)
    skipping.load_state_dict(plain.state_dict())
    kv = cache(TEACHER)
    found = skipping.move(ModelKV(kv.layers[::-1], (6, 4, 0), "a hybrid"))
    assert found.layer_ids == (1, 5)
    for one, other in zip(found.layers, plain.move(kv).layers, strict=True):
        assert torch.equal(one.keys, other.keys)


def test_identity_is_bit_for_bit() -> None:
    kv = cache(STUDENT)
    adapter = Adapter(STUDENT, STUDENT, LayerMap((LayerPair(0, 0, 1.0), LayerPair(1, 1, 1.0))), Identity())
    assert not adapter.state_dict()
    for one, other in zip(adapter.move(kv).layers, kv.layers, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.values, other.values)


def test_identity_keeps_the_importance_of_each_head() -> None:
    """Nothing mixes its heads, so that a compressor chooses the slots of self-distillation."""
    shape = geometry(2, 2, 3, 3)
    kv, pairs = cache(shape), LayerMap((LayerPair(0, 0, 1.0), LayerPair(1, 1, 1.0)))
    kept, averaged = (
        Adapter(shape, shape, pairs, method).move(kv).layers[1].importance
        for method in (Identity(), GroupMean())
    )
    found = kv.layers[1].importance
    assert found is not None
    assert torch.equal(kept, found)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(averaged, found.mean(1, keepdim=True).expand(-1, 2, -1))


def test_group_mean_and_repeat_by_loops() -> None:
    few, many = geometry(1, 2, 3, 2), geometry(2, 4, 3, 2)
    pairs = LayerMap((LayerPair(0, 0, 0.25), LayerPair(0, 1, 0.75)))
    kv = cache(many)
    moved = Adapter(few, many, pairs, GroupMean()).move(kv).layers[0]
    for head in range(2):
        first, second = (kv.layers[index].keys[:, 2 * head : 2 * head + 2].mean(1) for index in range(2))
        torch.testing.assert_close(moved.keys[:, head], 0.25 * first + 0.75 * second)
    one = cache(geometry(1, 2, 3, 2))
    wide = Adapter(geometry(1, 4, 3, 2), few, LayerMap((LayerPair(0, 0, 1.0),)), Repeat()).move(one).layers[0]
    torch.testing.assert_close(wide.values, one.layers[0].values.repeat_interleave(2, 1))


def test_only_learned_maps_are_trained() -> None:
    teacher = cache(TEACHER)
    for method, learns in ((Ridge(), False), (Learned(), True)):
        adapter = Adapter(STUDENT, TEACHER, MAP, method)
        assert {tensor.requires_grad for tensor in adapter.parameters()} == {learns}
        assert adapter.move(teacher).layers[0].keys.requires_grad == learns
        assert adapter.regularizer(adapter.move(teacher), cache(STUDENT)).requires_grad == learns


def test_state_round_trip() -> None:
    one, other = stirred(), Adapter(STUDENT, TEACHER, MAP)
    names = [f"{p}.{i}.{t}" for p in ("keys", "values") for i in range(2) for t in ("weight", "bias")]
    assert list(one.state_dict()) == names
    other.load_state_dict(one.state_dict())
    teacher = cache(TEACHER)
    for a, b in zip(one.move(teacher).layers, other.move(teacher).layers, strict=True):
        assert torch.equal(a.keys, b.keys)


def test_the_start_takes_no_random_numbers() -> None:
    before = torch.get_rng_state()
    first = Adapter(STUDENT, TEACHER, MAP, Learned())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.keys[1].weight, Adapter(STUDENT, TEACHER, MAP, Learned()).keys[1].weight)


def test_half_precision_and_autocast_keep_the_maps_precision() -> None:
    teacher = cache(TEACHER)
    half = teacher.map(tuple(x.replace(keys=x.keys.bfloat16()) for x in teacher.layers))
    adapter = stirred()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        moved = adapter.move(half)
    assert moved.layers[0].keys.dtype == torch.float32
    assert torch.equal(moved.layers[0].values, adapter.move(teacher).layers[0].values)


def test_what_cannot_be_mapped_is_refused() -> None:
    teacher = cache(TEACHER)
    rotated = teacher.map(tuple(layer.replace(rope=Rope(torch.ones(2))) for layer in teacher.layers))
    with pytest.raises(ValueError, match="align/head_dim_adapter: keys of layer 0 of a cache are rotated"):
        stirred().move(rotated)
    mask = teacher.layers[1].mask.clone()
    mask[0, 1, 0] = False
    unlike = teacher.map((teacher.layers[0], teacher.layers[1].replace(mask=mask), teacher.layers[2]))
    with pytest.raises(ValueError, match="heads of layer 1 of a cache hold different tokens"):
        stirred().move(unlike)
    with pytest.raises(ValueError, match="no teacher layer for student layer 1"):
        layer_blocks(STUDENT, TEACHER, LayerMap((LayerPair(0, 0, 1.0),)))


def test_blocks_of_grouped_queries() -> None:
    shapes = Geometry((LayerGeometry(8, 64, 32, None, "none"), LayerGeometry(1, 16, 48, None, "none")))
    pairs = LayerMap((LayerPair(0, 0, 0.5), LayerPair(0, 1, 0.5)))
    ((keys, values),) = layer_blocks(geometry(1, 2, 4, 3), shapes, pairs)
    assert (keys.inputs, keys.outputs, values.inputs, values.outputs) == (528, 8, 304, 6)
