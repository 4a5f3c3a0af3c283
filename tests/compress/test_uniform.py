"""Tokens at even distances."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.compress.uniform import Uniform, spread
from kvdistill.kv import Rope


def test_by_hand(make_layer, kept) -> None:
    assert kept(Uniform(), make_layer(torch.ones(1, 1, 7, dtype=torch.bool)), 3) == [2, 4, 6]
    assert kept(Uniform(), make_layer(torch.ones(1, 1, 10, dtype=torch.bool)), 4) == [2, 4, 7, 9]
    holes = torch.tensor([[[False, True, True, False, True, True]]])
    assert kept(Uniform(), make_layer(holes), 2) == [2, 5], "two stretches of two tokens each"
    assert kept(Uniform(), make_layer(holes), 1) == [5]


@given(st.integers(1, 40), st.integers(1, 40))
def test_is_its_definition(number, slots) -> None:
    chosen = spread(torch.ones(1, 1, number, dtype=torch.bool), slots)[0, 0].nonzero()[:, 0].tolist()
    wanted = (
        [math.ceil((j + 1) * number / slots) - 1 for j in range(slots)]
        if number >= slots
        else list(range(number))
    )
    assert chosen == wanted
    assert len(set(chosen)) == min(number, slots) and chosen[-1] == number - 1


def test_refuses_what_no_compressor_takes(make_layer, make_kv) -> None:
    layer = make_layer(torch.ones(1, 1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="Uniform: the cache cannot be compressed to slots=0"):
        Uniform().compress(make_kv(layer), 0)
    with pytest.raises(ValueError, match="Uniform: keys of layer 0 of a tiny model are rotated"):
        Uniform().compress(make_kv(layer.replace(rope=Rope(inv_freq=torch.ones(2)))), 2)
