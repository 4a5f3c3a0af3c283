"""Interpolation of the whole cache."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.compress.full_resampled import FullResampled
from kvdistill.kv import LayerKV, Rope


def ramp(make_layer, mask: list[int], keys: list[float], importance: list[float] | None = None) -> LayerKV:
    """One head with keys of width 1."""
    mask_row, key_row = torch.tensor([[mask]], dtype=torch.bool), torch.tensor([[keys]])
    layer = make_layer(mask_row, key_width=1, dtype=torch.float32).replace(keys=key_row[..., None])
    return layer if importance is None else layer.replace(importance=torch.tensor([[importance]]))


def resampled(make_kv, layer: LayerKV, slots: int) -> LayerKV:
    return FullResampled().compress(make_kv(layer), slots).layers[0]


def test_more_slots_than_tokens_by_hand(make_layer, make_kv) -> None:
    out = resampled(make_kv, ramp(make_layer, [1, 1, 1], [0.0, 10.0, 30.0]), 5)
    assert out.keys.flatten().tolist() == [0.0, 5.0, 10.0, 20.0, 30.0]
    assert out.positions.tolist() == [[[0, 0, 1, 2, 2]]], "0, 0.5, 1, 1.5, 2, rounded half to even"
    assert out.mask.all() and out.step_end is None


def test_fewer_slots_than_tokens_by_hand(make_layer, make_kv) -> None:
    out = resampled(make_kv, ramp(make_layer, [1, 1, 1, 1, 1, 1], [0.0, 3.0, 6.0, 0.0, 8.0, 2.0]), 3)
    assert out.keys.flatten().tolist() == [0.0, 3.0, 2.0], "places 0, 2.5 and 5; half-way between 6 and 0"


def test_importance_sums_to_one_by_hand(make_layer, make_kv) -> None:
    layer = ramp(make_layer, [1, 1, 1], [0.0, 0.0, 0.0], [0.2, 0.3, 0.5])
    assert resampled(make_kv, layer, 2).importance.flatten().tolist() == pytest.approx([0.2 / 0.7, 0.5 / 0.7])
    nobody = layer.replace(importance=torch.zeros(1, 1, 3))
    assert resampled(make_kv, nobody, 2).importance.flatten().tolist() == [0.0, 0.0]


def test_one_slot_reads_the_first_token(make_layer, make_kv) -> None:
    assert resampled(make_kv, ramp(make_layer, [0, 1, 1], [9.0, 4.0, 5.0]), 1).keys.flatten().tolist() == [
        4.0
    ]


def test_only_valid_tokens_are_read(make_layer, make_kv) -> None:
    layer = ramp(make_layer, [0, 1, 0, 1, 0], [torch.nan, 2.0, torch.nan, 4.0, torch.nan])
    out = resampled(make_kv, layer, 3)
    assert out.keys.flatten().tolist() == [2.0, 3.0, 4.0]
    assert out.positions.tolist() == [[[1, 2, 3]]]


def test_heads_are_resampled_apart(make_layer, make_kv) -> None:
    mask = torch.tensor([[[True, True, True, True], [False, False, True, True]]])
    out = resampled(make_kv, make_layer(mask), 2)
    assert out.positions.tolist() == [[[0, 3], [2, 3]]]


def test_a_cache_without_any_slot_gives_empty_slots(make_layer, make_kv) -> None:
    out = resampled(make_kv, make_layer(torch.ones(1, 1, 0, dtype=torch.bool)), 2)
    assert out.mask.tolist() == [[[False, False]]] and not out.keys.any()


@given(st.integers(1, 30), st.integers(1, 30))
def test_a_straight_line_stays_straight(make_layer, make_kv, number, slots) -> None:
    layer = ramp(make_layer, [1] * number, [float(i) for i in range(number)])
    wanted = [j * (number - 1) / max(slots - 1, 1) for j in range(slots)]
    assert resampled(make_kv, layer, slots).keys.flatten().tolist() == pytest.approx(
        wanted, rel=1e-5, abs=1e-5
    )


def test_refuses_what_no_compressor_takes(make_layer, make_kv) -> None:
    layer = make_layer(torch.ones(1, 1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="FullResampled: the cache cannot be compressed to slots=0"):
        FullResampled().compress(make_kv(layer), 0)
    with pytest.raises(ValueError, match="FullResampled: keys of layer 0 of a tiny model are rotated"):
        FullResampled().compress(make_kv(layer.replace(rope=Rope(inv_freq=torch.ones(2)))), 2)
