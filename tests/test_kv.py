"""The border types: what they refuse, and that they never change under the caller's hands."""

from dataclasses import FrozenInstanceError, fields

import pytest
import torch

from kvdistill.kv import LayerKV, LossOutput, ModelKV, Rope, full_mask, require_unrotated


def layer(rope: Rope | None = None) -> LayerKV:
    keys = torch.arange(24.0).reshape(1, 2, 3, 4).requires_grad_()
    return LayerKV(keys, keys + 1, full_mask(keys), torch.arange(3).expand(1, 2, 3), rope)


def test_replace_and_detach_leave_the_original_alone() -> None:
    one = layer()
    other = one.replace(mask=~one.mask)
    assert one.mask.all()
    assert not other.mask.any()
    assert other.keys is one.keys
    assert one.keys.requires_grad
    assert not one.detach().keys.requires_grad
    assert not one.detach().values.requires_grad
    assert torch.equal(one.detach().keys, one.keys)
    with pytest.raises(FrozenInstanceError):
        one.keys = one.values  # pyright: ignore[reportAttributeAccessIssue]


def test_one_function_is_applied_to_every_tensor_with_a_slot_axis() -> None:
    rope = Rope(torch.ones(2))
    given = layer(rope).replace(importance=torch.arange(6.0).reshape(1, 2, 3), step_end=layer().mask)
    last = given.map_slots(lambda values: values[:, :, -1:])
    assert last.rope is rope
    names = [field.name for field in fields(LayerKV) if field.name != "rope"]
    assert len(names) == 6
    for name in names:
        assert torch.equal(getattr(last, name), getattr(given, name)[:, :, -1:]), name
    bare = layer().map_slots(lambda values: values[:, :, -1:])
    assert (bare.importance, bare.step_end, bare.rope) == (None, None, None)


def test_a_model_is_detached_and_mapped_layer_by_layer() -> None:
    kv = ModelKV((layer(), layer()), (0, 3), "pico")
    assert not any(each.keys.requires_grad for each in kv.detach().layers)
    assert kv.map((layer(),)).source == "pico"
    assert kv.map((layer(),)).layer_ids == (0, 3)
    assert len(kv.layers) == 2


def test_rotated_keys_are_refused_by_station_layer_and_model() -> None:
    rope = Rope(torch.ones(2))
    require_unrotated(ModelKV((layer(), layer()), (0, 3), "pico"), "compress/rkv")
    with pytest.raises(
        ValueError,
        match=r"^compress/rkv: keys of layer 3 of pico are rotated. Un-rotate them first: capture does",
    ):
        require_unrotated(ModelKV((layer(), layer(rope)), (0, 3), "pico"), "compress/rkv")


def test_shapes_are_checked_where_tests_run() -> None:
    keys = torch.zeros(1, 2, 3, 4)
    with pytest.raises(Exception, match="mask"):
        LayerKV(keys, keys, torch.ones(1, 2, 5, dtype=torch.bool), torch.zeros(1, 2, 3, dtype=torch.long))
    with pytest.raises(Exception, match="keys"):
        LayerKV(keys[0], keys, full_mask(keys), torch.zeros(1, 2, 3, dtype=torch.long))  # pyright: ignore


def test_a_full_mask_has_one_entry_a_slot_and_metrics_are_not_shared() -> None:
    mask = full_mask(torch.zeros(2, 3, 5, 7))
    assert mask.shape == (2, 3, 5)
    assert mask.all()
    one, other = LossOutput(torch.zeros(())), LossOutput(torch.zeros(()))
    one.metrics["kv"] = torch.ones(())
    assert other.metrics == {}
