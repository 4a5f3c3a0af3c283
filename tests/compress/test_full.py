"""The whole cache."""

import pytest
import torch

from kvdistill.compress.full import Full
from kvdistill.kv import Rope


def test_nothing_changes(make_layer, make_kv) -> None:
    kv = make_kv(make_layer(torch.ones(2, 2, 5, dtype=torch.bool)))
    assert Full().compress(kv, 3) is kv
    assert kv.layers[0].mask.shape == (2, 2, 5), "five tokens stay five, though the student has three slots"


def test_refuses_what_no_compressor_takes(make_layer, make_kv) -> None:
    layer = make_layer(torch.ones(1, 1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="Full: the cache cannot be compressed to slots=0"):
        Full().compress(make_kv(layer), 0)
    with pytest.raises(ValueError, match="Full: keys of layer 0 of a tiny model are rotated"):
        Full().compress(make_kv(layer.replace(rope=Rope(inv_freq=torch.ones(2)))), 2)
