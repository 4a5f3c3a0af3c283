"""Only the answer's attention."""

import pytest
import torch

from kvdistill.compress.attention import Attention
from kvdistill.compress.rkv import RKV


def test_by_hand(make_layer, kept) -> None:
    layer = make_layer(torch.ones(1, 1, 4, dtype=torch.bool), dtype=torch.float32)
    layer = layer.replace(importance=torch.tensor([[[0.1, 0.4, 0.2, 0.3]]]))
    assert kept(Attention(), layer, 2) == [1, 3]


@pytest.mark.parametrize("selection", ["per_head", "shared"])
def test_is_rkv_at_lambda_one(make_layer, make_kv, selection) -> None:
    kv = make_kv(make_layer(torch.rand(3, 2, 20, generator=torch.Generator().manual_seed(0)) < 0.8))
    ours, theirs = (
        m.compress(kv, 5).layers[0]
        for m in (Attention(selection=selection), RKV(importance_weight=1.0, selection=selection))
    )
    assert torch.equal(ours.positions, theirs.positions) and torch.equal(ours.keys, theirs.keys)


def test_without_importance_it_says_what_to_do(make_layer, make_kv) -> None:
    layer = make_layer(torch.ones(1, 1, 4, dtype=torch.bool)).replace(importance=None)
    with pytest.raises(
        ValueError,
        match=r"Attention needs to know how much the answer attended .* choose a compressor that needs "
        r"none: cosine",
    ):
        Attention().compress(make_kv(layer), 2)
