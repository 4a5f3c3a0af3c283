"""R-KV against its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kvdistill.compress.rkv import BLOCK, RKV, distinctness, mean_cosine
from kvdistill.kv import LayerKV, ModelKV


def mean_cosine_by_definition(layer: LayerKV) -> Tensor:
    """Every pair of keys, in float64."""
    out = torch.zeros(layer.mask.shape, dtype=torch.float64)
    for sample in range(out.shape[0]):
        for head in range(out.shape[1]):
            valid = layer.mask[sample, head]
            keys = layer.keys[sample, head, valid].double()
            unit = keys / (keys.norm(dim=-1, keepdim=True) + 1e-8)
            table = (unit @ unit.T).fill_diagonal_(0.0)
            out[sample, head, valid] = table.sum(dim=1) / max(int(valid.sum()), 1)
    return out


def three_keys(make_layer) -> LayerKV:
    layer = make_layer(torch.ones(1, 1, 3, dtype=torch.bool), key_width=2, dtype=torch.float32)
    return layer.replace(
        keys=torch.tensor([[[[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]]]),
        importance=torch.tensor([[[0.2, 0.7, 0.1]]]),
    )


def test_by_hand(make_layer, kept) -> None:
    """c = 1/3, 1/3, 0; softmax(-c) = 0.716531, 0.716531, 1 over 2.433063; S = 0.1 I + 0.9 R."""
    layer = three_keys(make_layer)
    assert mean_cosine(layer)[0, 0].tolist() == pytest.approx([1 / 3, 1 / 3, 0.0], abs=1e-6)
    assert distinctness(layer)[0, 0].tolist() == pytest.approx([0.294498, 0.294498, 0.411005], abs=2e-6)
    assert RKV().score(layer)[0, 0].tolist() == pytest.approx([0.285048, 0.335048, 0.379904], abs=2e-6)
    assert kept(RKV(), layer, 2) == [1, 2]
    assert kept(RKV(importance_weight=0.9), layer, 1) == [1]


def test_ranges_by_hand(make_layer) -> None:
    layer = three_keys(make_layer).replace(mask=torch.tensor([[[True, True, False]]]))
    other = layer.replace(importance=torch.tensor([[[0.4, 0.6, 0.0]]]))
    ranges = {
        name: value.item()
        for name, value in RKV().diagnostics(ModelKV((layer, other), (0, 1), "two layers")).items()
    }
    wanted = {"importance_min": 0.3, "importance_max": 0.65, "distinctness_min": 0.5, "distinctness_max": 0.5}
    assert ranges == pytest.approx(wanted), "padding has no part in it, and two like keys share R evenly"
    nothing = layer.replace(mask=torch.zeros_like(layer.mask))
    assert RKV().diagnostics(ModelKV((nothing,), (0,), "nothing")) == {}


@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.floats(0.0, 1.0),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_the_linear_mean_is_the_quadratic_one(make_layer, seed, slots, share, dtype) -> None:
    mask = torch.rand(2, 3, slots, generator=torch.Generator().manual_seed(seed)) <= share
    layer = make_layer(mask, seed=seed, dtype=dtype, key_width=16)
    assert (mean_cosine(layer) - mean_cosine_by_definition(layer)).abs().max() < 1e-5


def test_over_several_blocks_with_a_common_direction(make_layer) -> None:
    """Keys of real models share a direction, so the sum grows with the text: the worst case for summing in
    float32.
    """
    layer = make_layer(torch.ones(1, 2, 2 * BLOCK + 7, dtype=torch.bool), dtype=torch.float32, key_width=32)
    layer = layer.replace(keys=layer.keys + 4.0)
    wanted = mean_cosine_by_definition(layer)
    assert wanted.mean() > 0.9
    assert (mean_cosine(layer) - wanted).abs().max() < 1e-5


def test_a_zero_key_is_like_no_other(make_layer) -> None:
    layer = three_keys(make_layer)
    layer = layer.replace(keys=torch.tensor([[[[0.0, 0.0], [2.0, 0.0], [2.0, 0.0]]]]))
    assert mean_cosine(layer)[0, 0].tolist() == pytest.approx([0.0, 1 / 3, 1 / 3], abs=1e-6)


def test_padding_has_no_share_of_the_softmax(make_layer) -> None:
    mask = torch.tensor([[[True, False, True, True, False]]])
    layer = make_layer(mask)
    spoilt = layer.replace(keys=layer.keys.masked_fill(~mask[..., None], torch.nan))
    shares = distinctness(spoilt)
    assert torch.equal(shares, distinctness(layer)) and shares.sum().item() == pytest.approx(1.0)
    assert not shares[~mask].any()


def test_choosing_leaves_nothing_for_the_backward_pass(make_layer, make_kv) -> None:
    layer = make_layer(torch.ones(1, 1, 6, dtype=torch.bool))
    layer = layer.replace(keys=layer.keys.clone().requires_grad_())
    kept_for_backward: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda saved: kept_for_backward.append(saved) or saved, lambda saved: saved
    ):
        assert RKV().compress(make_kv(layer), 2).layers[0].keys.requires_grad
    floats = {saved.data_ptr() for saved in kept_for_backward if saved.is_floating_point()}
    assert floats == {layer.keys.data_ptr()}, (
        "the keys themselves and which slots were kept, nothing of the score"
    )


@pytest.mark.parametrize("weight", [-0.1, 1.5])
def test_lambda_is_a_share(weight) -> None:
    with pytest.raises(ValueError, match=r"RKV: importance_weight \(λ\) is .* Set it between 0 and 1"):
        RKV(importance_weight=weight)


def test_without_importance_it_says_what_to_do(make_layer, make_kv) -> None:
    layer = make_layer(torch.ones(1, 1, 4, dtype=torch.bool)).replace(importance=None)
    with pytest.raises(
        ValueError,
        match="RKV needs to know how much the answer attended to each token, and this cache carries no "
        "importance",
    ):
        RKV().compress(make_kv(layer), 2)
