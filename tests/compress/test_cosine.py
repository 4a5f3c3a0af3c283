"""Only the keys' difference."""

import pytest
import torch

from kvdistill.compress.cosine import Cosine
from kvdistill.compress.rkv import RKV


def test_by_hand(make_layer, kept) -> None:
    layer = make_layer(torch.ones(1, 1, 4, dtype=torch.bool), key_width=2, dtype=torch.float32)
    layer = layer.replace(keys=torch.tensor([[[[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]]]))
    # sums of cosines: 1 - 1 = 0, 0, 0, -2; the opposite key is the most distinct, then the earliest of three
    # equals
    assert kept(Cosine(), layer, 1) == [3]
    assert kept(Cosine(), layer, 2) == [0, 3]


@pytest.mark.parametrize("selection", ["per_head", "shared"])
def test_is_rkv_at_lambda_zero_and_needs_no_importance(make_layer, make_kv, selection) -> None:
    layer = make_layer(torch.rand(3, 2, 20, generator=torch.Generator().manual_seed(0)) < 0.8)
    theirs = RKV(importance_weight=0.0, selection=selection).compress(make_kv(layer), 5).layers[0]
    ours = Cosine(selection=selection).compress(make_kv(layer.replace(importance=None)), 5).layers[0]
    assert torch.equal(ours.positions, theirs.positions) and torch.equal(ours.keys, theirs.keys)
